"""`python -m services.binding`: settings, logs, serve until told to stop."""

from services.binding.service import start
from services.binding.settings import BindingSettings
from services.binding.store import SERVICE
from services.runtime.server import run
from services.runtime.settings import load
from services.runtime.telemetry import configure_logging


async def main() -> None:
    settings = load(BindingSettings)
    configure_logging(SERVICE, settings.log_level)
    server, _ = await start(settings)
    await server.serve()


if __name__ == "__main__":
    run(main)
