"""`python -m services.binding`: settings, logs, serve until told to stop; or `rebuild`, `check`,
`purge`."""

import gc
import sys
from typing import Final

from services.binding.maintenance import maintain, purge
from services.binding.service import start
from services.binding.settings import BindingSettings
from services.binding.store import SERVICE
from services.runtime.maintenance import command
from services.runtime.server import run
from services.runtime.settings import load
from services.runtime.telemetry import configure_logging

# A request leaves no cycles behind: looking for them after every 700 objects took 7 % of a create.
_COLLECT_AFTER: Final = 50_000


async def main() -> None:
    settings = load(BindingSettings)
    configure_logging(SERVICE, settings.log_level)
    server, _ = await start(settings)
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 100)
    await server.serve()


if __name__ == "__main__":
    if sys.argv[1:2] == ["purge"]:
        sys.exit(purge(sys.argv[2:], load(BindingSettings)))
    if asked := command():
        sys.exit(maintain(asked, load(BindingSettings)))
    run(main)
