"""What allocator reads from its environment, once."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import RedisSettings


class AllocatorSettings(RedisSettings):
    """`ALLOCATOR_LISTEN`, `ALLOCATOR_KAFKA_BOOTSTRAP` and so on."""

    model_config = SettingsConfigDict(env_prefix="ALLOCATOR_")

    keyring_dir: Path  # of the permutation keys; losing them loses the meaning of every cursor
    cell: str = Field(default="c0", pattern=r"^[a-z][a-z0-9-]{0,31}$")
