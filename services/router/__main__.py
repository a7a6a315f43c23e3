"""`python -m services.router`: supervises one writer and ROUTER_WORKERS workers. Wiring only."""

import signal
import threading

from services.router.settings import RouterSettings
from services.router.supervisor import Supervisor
from services.runtime.settings import load
from services.runtime.telemetry import configure_logging


def main() -> None:
    """Runs until SIGTERM or SIGINT."""
    settings = load(RouterSettings)
    configure_logging("router", settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Supervisor(settings).run(stop)


if __name__ == "__main__":
    main()
