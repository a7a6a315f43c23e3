"""Calls through Kamailio, the HTTP edge and a worker: `python -m bench.sip` (see `make packages`).

SIPp calls SIPp, once directly and once through deploy/sip: the difference of the times from INVITE
to 180 is the delay that a caller hears after dialling. Then ever more calls a second, for as long
as each of them goes through. Everything shares this machine's cores, the telephones too.
"""

import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.route_call import prepare
from tests.interop import telephones as sip

RATE, CALLS = 50, 1000
RATES = (100, 200, 300, 400, 600, 800)  # tried for five seconds each, until a call fails


def _timed(steps: list[str]) -> list[str]:
    """From the INVITE to its 180."""
    first = steps[0].replace("<send ", '<send start_rtd="1" ', 1)
    later = (
        step.replace('response="180"', 'response="180" rtd="1"').replace(
            'response="100"',
            'response="100" optional="true"',  # a telephone sends none
        )
        for step in steps[1:]
    )
    return [first, *later]


def _calls(
    switch: sip.Switch, numbers: dict[str, str], rate: int, calls: int, to: str = ""
) -> list[float]:
    """Delays in ms; fails if a call does. `to`: past the switch."""
    name = f"{'direct' if to else 'switch'}-{rate}"
    callee = [*sip.answers(), *sip.is_hung_up_on()]
    answering = switch.telephone(f"{name}-callee", callee, numbers, "-m", str(calls),
                                 port=switch.callee_port)  # fmt: skip
    sip.listening(switch.callee_port)
    caller = switch.telephone(
        f"{name}-caller", _timed([*sip.ringing(), *sip.hangs_up()]), numbers, "-r", str(rate), "-l",
        "2000", "-m", str(calls), "-trace_rtt", "-rtt_freq", "1", to=to,
    )  # fmt: skip
    caller.done()
    answering.hang_up()
    [times] = switch.folder.glob(f"{name}-caller*rtt.csv")
    rows = list(csv.reader(times.open(), delimiter=";"))[1:]
    return [float(row[1]) for row in rows]


def _cuts(name: str, delays: list[float]) -> tuple[float, float]:
    cut = statistics.quantiles(delays, n=100)
    print(f"{name:>10}: INVITE to 180 p50 {cut[49]:.2f} ms, p99 {cut[98]:.2f} ms")
    return cut[49], cut[98]


def main() -> None:
    """Prints both, and the most calls a second."""
    with tempfile.TemporaryDirectory(prefix="axbridge-bench-") as text:
        folder = Path(text)
        (caller, dialled), *_ = prepare(folder)
        (folder / "metrics").mkdir()
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.http_edge", "--serve", text],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")},
        )  # fmt: skip
        assert server.stdout is not None
        try:
            port = server.stdout.readline().split()[1]
            with sip.kamailio(folder, f"127.0.0.1:{port}") as switch:
                numbers = {"a": caller, "b": "13900000000", "x": dialled}
                callee = f"{sip.HOST}:{switch.callee_port}"
                direct = _cuts("direct", _calls(switch, numbers, RATE, CALLS, callee))
                through = _cuts("switch", _calls(switch, numbers, RATE, CALLS))
                most = RATE
                with contextlib.suppress(AssertionError):
                    for rate in RATES:
                        _cuts(f"{rate}/s", _calls(switch, numbers, rate, 5 * rate))
                        most = rate
        finally:
            server.terminate()
            server.wait()
    added = [round(after - before, 2) for before, after in zip(direct, through, strict=True)]
    figures = {"added_delay_p50_ms": added[0], "added_delay_p99_ms": added[1]}
    print(json.dumps({"sip": {**figures, "calls_per_second": most}}))


if __name__ == "__main__":
    main()
