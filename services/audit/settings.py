"""Settings of audit's processes, each from `AUDIT_…` in the environment.

Invariant: `log_dir` is the same for both; the service reads `log_dir`/log only, and nobody but the
sequencer enters `log_dir`/private.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import Address, ServiceSettings

_PREFIX = SettingsConfigDict(env_prefix="AUDIT_")


class AuditSettings(ServiceSettings):
    """Of the gRPC service and its indexer."""

    model_config = _PREFIX

    listen: Address = "127.0.0.1:50054"
    kafka_bootstrap: str = ""  # not needed: the service reads the log, never Kafka
    log_dir: Path
    # One of the two. An SQLite file, which may be deleted while the service is down, or the address
    # of a PostgreSQL database of its own (`postgresql+psycopg://user@host/database`).
    index_path: Path | None = None
    index_url: SecretStr | None = None  # may carry a password; libpq's PGPASSFILE is better
    keyring_dir: Path  # opens the sealed part of an event for its order id, and tags it

    @model_validator(mode="after")
    def _one_index(self) -> Self:
        if (self.index_path is None) == (self.index_url is None):
            raise ValueError("exactly one of AUDIT_INDEX_PATH and AUDIT_INDEX_URL is set")
        return self


class SequencerSettings(ServiceSettings):
    """Of the sequencer."""

    model_config = _PREFIX

    log_dir: Path
    # Name of the log and of its key, a schema-less URL. Fixed for the life of the log.
    origin: str = "axbridge.invalid/log/local"
    # Several logs, where one is not enough: of `groups` logs this is number `group`, which has the
    # partitions p with p mod groups = group, its own folder and its own origin. Fixed likewise.
    groups: int = Field(default=1, ge=1)
    group: int = Field(default=0, ge=0)
    # After a topic was made anew or lost records: go on, reading it from its beginning. What is a
    # leaf already stays one; what Kafka lost before it was one is missing for good.
    accept_void: bool = False

    @model_validator(mode="after")
    def _group_exists(self) -> Self:
        if self.group >= self.groups:
            raise ValueError("AUDIT_GROUP counts from 0 to AUDIT_GROUPS - 1")
        return self

    def has(self, partition: int) -> bool:
        """Whether this log has a partition of the topics."""
        return partition % self.groups == self.group


class TileServerSettings(ServiceSettings):
    """Of the server of the log's files."""

    model_config = _PREFIX

    listen: Address = "127.0.0.1:50055"  # plain HTTP
    kafka_bootstrap: str = ""  # not needed: it reads the served folder and nothing else
    log_dir: Path


class GathererSettings(ServiceSettings):
    """Of the process that asks witnesses."""

    model_config = _PREFIX

    kafka_bootstrap: str = ""  # not needed
    log_dir: Path
    witness_policy: Path  # a file, see `services.audit.policy`
    witness_every_seconds: float = Field(default=1.0, gt=0)


class WitnessSettings(ServiceSettings):
    """Of a witness, `WITNESS_…`: it is no part of the log it watches."""

    model_config = SettingsConfigDict(env_prefix="WITNESS_")

    listen: Address = "127.0.0.1:50056"  # plain HTTP
    kafka_bootstrap: str = ""  # not needed
    data_dir: Path  # its key and what it has seen; a volume of its own
    name: str = "axbridge.invalid/witness/local"  # of its key, a schema-less URL
    logs: tuple[str, ...]  # vkeys of the logs, a JSON list
