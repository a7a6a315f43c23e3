"""Which settings class reads the environment of each process that containers run."""

from services.allocator.settings import AllocatorSettings
from services.audit.settings import AuditSettings, SequencerSettings, TileServerSettings
from services.binding.settings import BindingSettings
from services.router.settings import PushSettings, RecordsSettings, RouterSettings
from services.runtime.settings import ServiceSettings

SETTINGS: dict[str, type[ServiceSettings]] = {
    "services.allocator": AllocatorSettings,
    "services.binding": BindingSettings,
    "services.router": RouterSettings,
    "services.router.records": RecordsSettings,
    "services.router.push": PushSettings,
    "services.audit": AuditSettings,
    "services.audit.sequencer": SequencerSettings,
    "services.audit.tileserver": TileServerSettings,
}
# Set by the supervisor for its own children.
INTERNAL = {"ROUTER_WORKER", "ROUTER_SUPERVISED"}


def known_names(settings: type[ServiceSettings]) -> set[str]:
    """Every environment name that the class reads and a person may set."""
    prefix = settings.model_config["env_prefix"]
    return {f"{prefix}{name}".upper() for name in settings.model_fields} - INTERNAL


def required_names(settings: type[ServiceSettings]) -> set[str]:
    """The names without which the process does not start."""
    prefix = settings.model_config["env_prefix"]
    fields = settings.model_fields.items()
    return {f"{prefix}{name}".upper() for name, field in fields if field.is_required()}


def health_name(settings: type[ServiceSettings]) -> str:
    """Where the process opens its health port: its own name for it, where it has one."""
    return max((n for n in known_names(settings) if n.endswith("HEALTH_LISTEN")), key=len)


def problems(module: str, given: set[str]) -> list[str]:
    """What is wrong with the environment names given to a process."""
    settings = SETTINGS[module]
    health = health_name(settings)
    idle = {name for name in known_names(settings) if name.endswith("HEALTH_LISTEN")} - {health}
    unknown = given - (known_names(settings) - idle)
    # By default health answers on a random port of loopback, where no probe finds it.
    missing = (required_names(settings) | {health}) - given
    return sorted(f"unknown {name}" for name in unknown) + sorted(f"no {name}" for name in missing)
