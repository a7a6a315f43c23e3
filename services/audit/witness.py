"""A witness: cosigns checkpoints of logs that only grow: `python -m services.audit.witness`.

Run it apart from the log: other people, another machine, a key and a store of its own; it needs
nothing of axbridge but the logs' vkeys. `POST /add-checkpoint` is C2SP tlog-witness; `GET /vkey`
gives its own key. Invariant: the store's step is on disk before an answer leaves.
"""

import sqlite3
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar, Final

from services.audit.checkpoint import NoteVerifier
from services.audit.cosignature import WitnessSigner
from services.audit.settings import WitnessSettings
from services.audit.witnessing import TEXT, Answer, Seen, Witness
from services.runtime.httpserver import Server
from services.runtime.metrics import Metrics
from services.runtime.settings import load
from services.runtime.signals import stop_on_signals, wait_for
from services.runtime.telemetry import HealthEndpoint, configure_logging, logger
from services.runtime.wholefile import replace_file

_LOG: Final = logger(__name__)
# A note of 100 signatures and a proof of 63 hashes are some 20 kB.
_MOST_BYTES: Final = 64 * 1024


class SqliteWitnessStore:
    """WitnessStore in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._open()) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS seen (origin TEXT PRIMARY KEY, size INTEGER, root BLOB)"
            )

    def newest(self, origin: str) -> Seen:
        with closing(self._open()) as connection:
            query = "SELECT size, root FROM seen WHERE origin = ?"
            row = connection.execute(query, (origin,)).fetchone()
        return Seen(*row) if row else Seen()

    def replace(self, origin: str, expected: Seen, new: Seen) -> bool:
        first = Seen()
        with closing(self._open()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (origin, first.size, first.root)
            )
            changed = connection.execute(
                "UPDATE seen SET size = ?, root = ? WHERE origin = ? AND size = ? AND root = ?",
                (new.size, new.root, origin, expected.size, expected.root),
            ).rowcount
            connection.execute("COMMIT")
        return changed == 1

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        # A rollback journal with FULL: a commit that returned outlives the power.
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def own_key(path: Path, name: str) -> WitnessSigner:
    """The witness's key, made on the first start.

    Raises:
        BadKey: the file holds another name's key, or none.
    """
    if not path.exists():
        signer = WitnessSigner.generate(name)
        replace_file(path, signer.skey().encode() + b"\n", mode=0o600)
    signer = WitnessSigner.parse(path.read_text().removesuffix("\n"))
    if signer.name != name:
        raise SystemExit(f"the key is of {signer.name}, not of {name}")
    return signer


class WitnessHandler(BaseHTTPRequestHandler):
    """The HTTP edge of one witness."""

    witness: ClassVar[Witness]
    vkey: ClassVar[str]
    protocol_version = "HTTP/1.1"
    server_version = "axbridge"
    sys_version = ""
    timeout = 10

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            answer = Answer(404, "not found\n")
        elif not (length.isascii() and length.isdecimal()) or int(length) > _MOST_BYTES:
            answer = Answer(400, "the body has no length, or is too long\n")
        else:
            answer = self.witness.add_checkpoint(self.rfile.read(int(length)))
        # What was not read of a refused body must not be taken for the next request.
        self.close_connection = answer.status != 200
        self._send(answer)

    def do_GET(self) -> None:
        found = self.path == "/vkey"
        self._send(Answer(200, f"{self.vkey}\n") if found else Answer(404, "not found\n"))

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type or TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The metrics of the log tell who cosigned."""


def witness_server(settings: WitnessSettings) -> Server:
    """The server as the settings say; not started."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer = own_key(settings.data_dir / "key", settings.name)
    logs = [NoteVerifier.parse(vkey) for vkey in settings.logs]
    store = SqliteWitnessStore(settings.data_dir / "seen.sqlite")
    bound = {"witness": Witness(signer, logs, store, time.time), "vkey": signer.verifier.vkey}
    return Server(settings.listen, type("_Bound", (WitnessHandler,), bound))


def main() -> None:
    """Until SIGTERM or SIGINT."""
    settings = load(WitnessSettings)
    configure_logging("witness", settings.log_level)
    stop = stop_on_signals()
    server = witness_server(settings)
    health = HealthEndpoint(settings.health_listen, Metrics("witness").registry)
    health.start()
    server.start()
    _LOG.info("witnessing", port=server.port, health_port=health.port, logs=len(settings.logs))
    wait_for(stop)
    server.stop()
    health.stop()


if __name__ == "__main__":
    main()
