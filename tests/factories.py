"""Names that no other test has, so that tests share brokers without meeting. Pure."""

import uuid


def unique(prefix: str) -> str:
    """A fresh name for a topic, a group, a tenant or a key prefix: `<prefix>-<32 hex digits>`."""
    return f"{prefix}-{uuid.uuid4().hex}"
