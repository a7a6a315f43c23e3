"""`python -m services.router.worker`: answers switches from the view, one of several processes that
share the port. Wiring only.

Depends on no neighbour: it opens the view when there is one and journals to its own files. Ready
once the view has held all routes and is young enough, and while the journal takes decisions.
"""

import os
import threading

from axbridge.router.v1.router_service_pb2_grpc import add_RouterServiceServicer_to_server

from services.router.checks import Checks
from services.router.directoryfile import DirectoryFile
from services.router.handlers import Router
from services.router.httpedge import HttpEdge
from services.router.journal import Journal, Limits
from services.router.opener import CallerTagger, RouteOpener
from services.router.packed import JournalCipher
from services.router.recorder import JournalRecorder
from services.router.scanning import Scanning
from services.router.servicer import RouterServicer
from services.router.settings import RouterSettings
from services.router.store import ViewReader
from services.router.supervised import end_with_supervisor
from services.router.verifiers import verification
from services.runtime.clock import SystemClock
from services.runtime.keyring import FileKeyRing
from services.runtime.metrics import Metrics
from services.runtime.server import Options, ThreadedServer
from services.runtime.settings import load
from services.runtime.telemetry import configure_logging

_REFRESH_SECONDS = 0.25
_VERIFYING = 64  # of 50 ms each: 1,280 calls a second that all wait as long as they may


def main() -> None:
    """Serves until SIGTERM."""
    settings = load(RouterSettings)
    configure_logging("router", settings.log_level)
    cpus = sorted(os.sched_getaffinity(0))
    if settings.pinned(len(cpus)):
        os.sched_setaffinity(0, {cpus[settings.worker % len(cpus)]})
    clock, keyring, metrics = SystemClock(), FileKeyRing(settings.keyring_dir), Metrics("router")
    view = ViewReader(settings.view_dir, CallerTagger(keyring))
    limits = Limits(folder_bytes=settings.journal_max_bytes)
    journal = Journal(settings.journal_dir, f"{settings.id}-{settings.worker}", limits)
    recorder = JournalRecorder(journal, JournalCipher(keyring, journal.name))
    max_age_ms = int(settings.max_view_age_seconds * 1000)
    verify = verification(settings, clock)
    platforms = DirectoryFile(settings.directory_file) if settings.directory_file else None
    checks = Checks(platforms, clock, settings.checks_per_second) if platforms else None
    opener = RouteOpener(view, keyring)
    scanning = Scanning(settings.scan_misses_per_minute)
    router = Router(view, opener, recorder, clock, max_age_ms, verify, platforms, scanning)

    def ready() -> bool:
        fresh = clock.epoch_ms() - view.fresh_ms() <= max_age_ms
        return fresh and not journal.failed and journal.used_bytes < limits.folder_bytes

    stopped = threading.Event()

    def refresh() -> None:
        while not stopped.wait(_REFRESH_SECONDS):
            view.refresh()
            servicer.flush()
            if platforms is not None:
                platforms.refresh()
            if journal.failed:  # a disk that lost an fsync: let the supervisor start a fresh one
                server.request_stop(OSError("the journal's disk failed"))

    # Calls that wait for a verifier hold a thread each.
    threads = max(settings.threads, _VERIFYING) if settings.verified else settings.threads
    server = ThreadedServer(Options.of(settings, reuse_port=True, threads=threads), metrics, ready)
    servicer = RouterServicer(router, metrics, checks)
    server.add(add_RouterServiceServicer_to_server, servicer)
    if settings.http_listen:
        edge = HttpEdge(servicer, metrics, settings.http_sip_domain)
        http = edge.server(settings.http_listen, reuse_port=True)
        http.start()
        server.on_stop("http", lambda: http.stop(settings.grace_seconds))
    refresher = threading.Thread(target=refresh, name="view", daemon=True)
    server.on_stop("view", stopped.set)
    server.on_stop("refresh", refresher.join)
    server.on_stop("counts", servicer.flush)
    # Before the view: a call that outlives the grace can then not be recorded, so none is answered
    # unrecorded from a view that is closed.
    server.on_stop("journal", journal.close)
    server.on_stop("reader", view.close)
    refresher.start()
    server.start()
    if settings.supervised:
        end_with_supervisor()
    server.serve()


if __name__ == "__main__":
    main()
