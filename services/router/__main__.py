"""`python -m services.router`: supervises one writer and ROUTER_WORKERS workers. Wiring only."""

from services.router.settings import RouterSettings
from services.router.supervisor import Supervisor
from services.runtime.settings import load
from services.runtime.signals import stop_on_signals
from services.runtime.telemetry import configure_logging


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    settings = load(RouterSettings)
    configure_logging("router", settings.log_level)
    Supervisor(settings).run(stop_on_signals())


if __name__ == "__main__":
    main()
