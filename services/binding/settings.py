"""What binding reads from its environment, once.

Refuses defaults for what must be chosen. Invariant: no value is printed.
"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import RedisSettings


class BindingSettings(RedisSettings):
    """`BINDING_LISTEN`, `BINDING_REDIS_URL` and so on."""

    model_config = SettingsConfigDict(env_prefix="BINDING_")

    allocator_target: str = Field(min_length=1)  # host:port of allocator's gRPC
    keyring_dir: Path  # the key ring's folder
    evidence_public_key: Path  # PEM, X25519; see services/runtime/keyring.py
    # A binding ends at least this far ahead. Lowered only to show an expiry without waiting for it.
    minimum_life_seconds: int = Field(default=60, ge=1, le=86_400)
    # Names the keys that wrap route keys. To rotate them, give all processes a name never used.
    route_wrapping: str = Field(default="1", pattern=r"^[a-z0-9-]{1,16}$")
    cell: str = Field(default="c0", pattern=r"^[a-z0-9-]{1,32}$")
