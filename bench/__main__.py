"""Measures the speeds that matter, on one machine in one run: `python -m bench`.

Figures of one machine are not another's; compare within a run, and run it on an idle machine.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import allocator, audit_log, create_binding, expiry, rebuild
from deploy.local.places import LOCAL

_LOADS: Final[dict[str, Callable[[argparse.Namespace], dict[str, Any]]]] = {
    "create": lambda args: create_binding.single(args.data, args.seconds, args.callers),
    "batch_create": lambda args: create_binding.batched(args.data, args.seconds, 4),
}

_ROUTER: Final = {
    "route": "bench.route_call", "view": "bench.view", "http": "bench.http_edge",
    "sip": "bench.sip",
}  # fmt: skip


def main() -> int:
    """Runs what was asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    what = (*_LOADS, "allocator", "rebuild", "expiry", "audit_log", *_ROUTER)
    parser.add_argument("what", nargs="?", choices=what, help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load by creates")
    parser.add_argument("--bindings", type=int, default=200_000, help="to be rebuilt")
    parser.add_argument("--due", type=int, default=1_000_000, help="bindings of one minute")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the audit log")
    parser.add_argument("--callers", type=int, default=64, help="concurrent single creates")
    parser.add_argument("--data", type=Path, default=LOCAL / "bench", help="data folder; emptied")
    args = parser.parse_args()
    console = Console()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(f"load of the machine before (1, 5, 15 min): {load}; {os.cpu_count()} cores")
    for name, run in _LOADS.items():
        if args.what in (None, name):
            _show(console, name, run(args))
    if args.what in (None, "allocator"):
        console.print_json(data={"allocator": allocator.run(args.data)})
    if args.what in (None, "rebuild"):
        console.print_json(data={"rebuild": rebuild.run(args.data, args.bindings)})
    if args.what in (None, "expiry"):
        console.print_json(data={"expiry": expiry.run(args.data, args.due)})
    if args.what in (None, "audit_log"):
        console.print_json(data={"audit_log": audit_log.run(args.data, args.entries)})
    failed = 0
    for name, module in _ROUTER.items():
        if args.what in (None, name):
            failed |= subprocess.run([sys.executable, "-m", module], check=False).returncode
    return failed


def _show(console: Console, name: str, measured: dict[str, Any]) -> None:
    table = Table(name, "", title="Kafka-acked, everything on this machine")
    for name, value in measured.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {each}" for key, each in value.items()) or "none"
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
