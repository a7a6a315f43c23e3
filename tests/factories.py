"""Names that no other test has, so that tests share brokers without meeting. Pure."""

import uuid

_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def unique(prefix: str) -> str:
    """A fresh name for a topic, a group, a tenant or a key prefix: `<prefix>-<32 letters>`.

    Letters only, for a run of digits could look like a person's number and be refused as a label.
    """
    return f"{prefix}-{uuid.uuid4().hex.translate(_LETTERS)}"
