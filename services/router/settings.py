"""What the router's processes read from the environment (`ROUTER_…`)."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import Address, ServiceSettings


class RouterSettings(ServiceSettings):
    """For the supervisor, its workers and its writer alike."""

    model_config = SettingsConfigDict(env_prefix="ROUTER_")

    data_dir: Path  # the view and the journal; a volume of this pod's own
    keyring_dir: Path
    evidence_public_key: Path  # PEM file, or the folder that holds evidence-public.pem
    # Name of the pod in journals and event ids; stable across restarts, no other pod may have it.
    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,48}$")] = "r1"
    workers: int = Field(default=2, ge=1, le=256)
    # Where switches that speak no gRPC ask, in JSON over HTTP/1.1; unset: nowhere.
    http_listen: Address | None = None
    # Host of the SIP URIs in those answers; the switch sends the call to its own next hop.
    http_sip_domain: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")] = "axbridge.invalid"
    # Beyond this age of the view every call is refused as VIEW_STALE.
    max_view_age_seconds: float = Field(default=900.0, gt=0)
    # A caller on one trunk whose calls meet no binding so often in a minute is refused unlooked
    # (SCANNING); each worker counts. 0: never.
    scan_misses_per_minute: int = Field(default=600, ge=0)
    # Bound of all journals of the pod together; beyond it calls are refused (JOURNAL_FULL).
    journal_max_bytes: int = Field(default=2 * 1024**3, ge=1024**2)
    # Of each worker. Its handlers never wait, and one interpreter runs one thread at a time: more
    # threads only hand it to each other (measured: 16 double the context switches of 4).
    threads: int = Field(default=4, ge=1, le=256)
    # Pins each worker to a CPU of its own: its threads then do not drag what they share from cache
    # to cache (measured: 30 % less CPU a call). Unset: where the pod may use no more CPUs than it
    # has workers. On a larger machine that other pods share, all would pin to the same few.
    pin_workers: bool | None = None
    # Who is asked before a call is connected (R15), one of both or nobody: a platform that serves
    # axbridge.verifier.v1 at host:port, or a file of what is not genuine (verifiers.py).
    verifier_target: str = ""
    verifier_file: Path | None = None
    # Without an answer in time: let the call go on, refuse it, or hold to the last verdict on it.
    verifier_policy: Literal["open", "closed", "cached"] = "closed"
    verifier_budget_ms: int = Field(default=50, ge=1, le=2000)
    # JSON file of all platforms and their blocks (directory.py): calls to others' numbers are sent
    # on to them, and anybody may check a number. Unset: neither.
    directory_file: Path | None = None
    # CheckNumber: questions a second of one client address, of each worker.
    checks_per_second: float = Field(default=5.0, gt=0)
    calls_topic: str = "router.calls.v1"
    routes_topic: str = "binding.routes.v1"
    keys_topic: str = "binding.keys.v1"
    denials_topic: str = "binding.denials.v1"
    views_topic: str = "router.views.v1"
    callers_topic: str = "router.callers.v1"
    # Set by the supervisor for its children: which worker, and that it watches them.
    worker: int = Field(default=0, ge=0)
    supervised: bool = False

    @model_validator(mode="after")
    def _one_verifier(self) -> Self:
        if self.verifier_target and self.verifier_file:
            raise ValueError("a verifier is a target or a file")
        return self

    @property
    def verified(self) -> bool:
        """Whether a verifier is asked."""
        return bool(self.verifier_target or self.verifier_file)

    @property
    def view_dir(self) -> Path:
        """Where the view lies."""
        return self.data_dir / "view"

    @property
    def journal_dir(self) -> Path:
        """Where the journals lie."""
        return self.data_dir / "journal"

    def pinned(self, cpus: int) -> bool:
        """Whether workers are pinned, in a pod that may use so many CPUs."""
        return cpus <= self.workers if self.pin_workers is None else self.pin_workers


class RecordsSettings(ServiceSettings):
    """For `python -m services.router.records`."""

    model_config = SettingsConfigDict(env_prefix="ROUTER_")

    data_dir: Path
    keyring_dir: Path
    calls_topic: str = "router.calls.v1"
    records_topic: str = "router.records.v1"
    records_abandon_after_seconds: float = Field(default=25 * 3600.0, gt=0)
    # After a topic was made anew or lost records: go on, reading it from its beginning.
    records_accept_void: bool = False
    records_health_listen: str = "127.0.0.1:0"
    # Where operators ask how far a change has come (ViewService); unset: nowhere.
    records_listen: Address | None = None
    routes_topic: str = "binding.routes.v1"
    views_topic: str = "router.views.v1"


class PushSettings(ServiceSettings):
    """For `python -m services.router.push`."""

    model_config = SettingsConfigDict(env_prefix="ROUTER_")

    data_dir: Path
    keyring_dir: Path
    # JSON: {"tenants": {"<tenant>": {"url": "https://…", "secret": "at least 32 characters"}}};
    # read anew when it changes. Tenants without an endpoint are told nothing.
    push_endpoints: Path
    push_health_listen: str = "127.0.0.1:0"
