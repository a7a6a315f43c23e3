"""`python -m services.allocator`: serves until SIGTERM; or `rebuild`, `check`."""

import sys

from services.allocator.cells import SERVICE
from services.allocator.maintenance import maintain
from services.allocator.service import start
from services.allocator.settings import AllocatorSettings
from services.runtime.maintenance import command
from services.runtime.server import run
from services.runtime.settings import load
from services.runtime.telemetry import configure_logging


async def main() -> None:
    """Starts, serves, drains."""
    settings = load(AllocatorSettings)
    configure_logging(SERVICE, settings.log_level)
    server, _ = await start(settings)
    await server.serve()


if __name__ == "__main__":
    if asked := command():
        sys.exit(maintain(asked, load(AllocatorSettings)))
    run(main)
