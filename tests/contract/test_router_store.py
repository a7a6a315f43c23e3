"""The view's port in dictionaries and in LMDB, and what LMDB adds: positions, files, growth."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.router import viewfile
from services.router.denials import Denial, DenialEnd
from services.router.lastcalls import LastCall
from services.router.ports import Found
from services.router.store import Applied, ViewReader, ViewWriter
from services.router.view import Copy, RouteKey, Tombstone
from services.runtime.record import Record
from tests.contract.remotereader import PlainTagger, RemoteReader
from tests.parking import MemoryParking
from tests.unit.router.memoryview import MemoryView
from tests.unit.router.routes import NUMBER, route, tombstone

TAGGER = PlainTagger()
A, B, C, D = "+8613812345678", "+8613912345678", "+8618612345678", "+8618712345678"
TAGS = (TAGGER.party("t1", A), TAGGER.party("t1", B))


class LmdbView:
    """A writer here and a reader in another process, on one folder."""

    def __init__(self, folder: Path, reader: RemoteReader) -> None:
        self.writer = ViewWriter(folder)
        self._reader = reader
        reader.open(folder)
        self.apply, self.positions = self.writer.apply, self.writer.positions

    def find(self, number: str, caller: str, extension: str = "") -> Found:
        found: Found = self._reader.call("find", number, caller, extension)
        return found

    def denied(self, number: str, tenant: str, tag: bytes, callee: str, now_ms: int) -> bool:
        return bool(self._reader.call("denied", number, tenant, tag, callee, now_ms))

    @property
    def denying(self) -> Any:
        return self._reader.call("denying")

    def wrapped(self, key_id: str) -> Copy | None:
        found: Copy | None = self._reader.call("wrapped", key_id)
        return found

    def tick(self, fresh_at: float) -> None:
        self.writer.tick(fresh_at)
        self._reader.call("refresh")

    def fresh_ms(self) -> int:
        return int(self._reader.call("fresh_ms"))

    def close(self) -> None:
        self.writer.close()


@pytest.fixture(scope="module")
def remote() -> Iterator[RemoteReader]:
    reader = RemoteReader()
    yield reader
    reader.stop()


@pytest.fixture(params=["memory", "lmdb"])
def view(
    request: pytest.FixtureRequest, tmp_path: Path, remote: RemoteReader
) -> Iterator[MemoryView | LmdbView]:
    made = MemoryView(TAGGER) if request.param == "memory" else LmdbView(tmp_path, remote)
    yield made
    made.close()


def feed(apply: Callable[..., None], *changes: Applied, at: int = 0) -> None:
    items = [(Record("routes", 0, at + i, b"", b"", [], 0), c) for i, c in enumerate(changes)]
    apply(items, {("routes", 0): at + len(changes)})


def test_finds_each_party(view: MemoryView | LmdbView) -> None:
    assert view.find(NUMBER, A).tenants == ()
    feed(view.apply, route(tags=TAGS))
    found = view.find(NUMBER, A)
    assert (list(found.tenants), found.tenant, found.tag) == (["t1"], "t1", TAGS[0])
    assert found.entry is not None
    assert (found.entry.binding, found.entry.box) == ("b1", b"box of " + TAGS[1][:1])
    stranger = view.find(NUMBER, C)
    assert (stranger.tenant, stranger.entry) == ("t1", None)
    assert stranger.tag == TAGGER.party("t1", C)
    withheld = view.find(NUMBER, "")
    assert (withheld.tenant, withheld.tag, withheld.entry) == ("t1", b"", None)
    assert view.find("700999999990001", A).tenants == ()


def test_a_block_of_two_tenants_is_searched_for_both(view: MemoryView | LmdbView) -> None:
    tags = (TAGGER.party("t2", A), TAGGER.party("t2", B))
    other = NUMBER[:-1] + "2"
    feed(view.apply, route(tags=TAGS), route("b2", tenant="t2", number=other, tags=tags))
    assert view.find(NUMBER, A).tenant == "t1"
    assert view.find(other, A).tenant == "t2"


def test_who_is_no_party_meets_an_extension_or_what_is_for_anyone(
    view: MemoryView | LmdbView,
) -> None:
    other, tag_c = NUMBER[:-1] + "3", TAGGER.party("t1", C)
    feed(
        view.apply,
        route(tags=TAGS),
        route("b2", mode=4, tags=(tag_c, b""), options="extension=12"),
        route("b3", mode=2, number=other, tags=(TAGS[0], b"")),
    )

    def binding(caller: str, number: str, extension: str = "") -> object:
        found = view.find(number, caller, extension)
        return found.extensions if found.entry is None else found.entry.binding

    assert [binding(who, NUMBER) for who in (A, C, D, "")] == ["b1", "b2", True, True]
    assert [binding(who, NUMBER, "12") for who in (A, D)] == ["b2", "b2"]
    assert [binding(who, NUMBER, "1#") for who in (A, D)] == ["b1", True]
    assert [binding(who, other) for who in (A, D)] == ["b3", "b3"]
    assert binding(D, other, "12") == "b3"
    found = view.find(NUMBER, D, "12")
    assert (found.tag, found.entry and found.entry.caller_side) == (TAGGER.party("t1", D), 0)
    found = view.find(other, A)
    assert (found.tag, found.entry and found.entry.caller_side) == (TAGS[0], 1)


def test_a_of_axe_meets_the_last_caller(view: MemoryView | LmdbView) -> None:
    made = route(tags=(TAGS[0], b""), mode=4, options="callback_seconds=60;extension=1")
    calls = [
        LastCall(NUMBER, "b1", time_ms, 99_000, Copy("k", box))
        for time_ms, box in ((7_000, b"later"), (5_000, b"before"))
    ]
    feed(view.apply, replace(made, callee_b=Copy("", b"")))
    found = view.find(NUMBER, A).entry
    assert found is not None
    assert found.box == b""
    for place, each in enumerate(calls, start=1):
        feed(view.apply, each, at=place)
        found = view.find(NUMBER, A).entry
        assert found is not None
        assert (found.key_id, found.box) == ("k", (7_000).to_bytes(8) + b"later")
    stranger = view.find(NUMBER, C, "1").entry
    assert stranger is not None
    assert stranger.box == made.callee_a.box


def test_records_below_the_position_are_ignored(view: MemoryView | LmdbView) -> None:
    feed(view.apply, route(tags=TAGS), route(version=2, active=False, tags=TAGS))
    assert view.positions() == {("routes", 0): 2}
    feed(view.apply, route(version=9, tags=TAGS), at=1)
    found = view.find(NUMBER, A).entry
    assert found is not None
    assert not found.active


def test_positions_move_without_records(view: MemoryView | LmdbView) -> None:
    view.apply([], {("routes", 3): 7, ("keys.v1", 0): 1})
    assert view.positions() == {("routes", 3): 7, ("keys.v1", 0): 1}


def test_keys(view: MemoryView | LmdbView) -> None:
    assert view.wrapped("k") is None
    feed(view.apply, RouteKey("k", Copy("route-wrapping", b"\nbox\n")))
    assert view.wrapped("k") == Copy("route-wrapping", b"\nbox\n")


def test_denials(view: MemoryView | LmdbView) -> None:
    pool = "tenants/t1/pools/x"

    def denied(tag: bytes = TAGS[0], callee: str = B, now_ms: int = 4_999) -> bool:
        view.tick(0.0)
        return "t1" in view.denying and view.denied(NUMBER, "t1", tag, callee, now_ms)

    feed(view.apply, route(tags=TAGS, pool=pool))
    assert not denied()
    feed(view.apply, Denial("blacklist/t1/e1", "t1", 1, pool, TAGS[0], TAGS[1], 5_000), at=1)
    assert denied()
    assert not denied(now_ms=5_000)
    assert not denied(callee=C)
    assert not denied(TAGS[1], A)
    feed(view.apply, Denial("blacklist/t1/e2", "t1", 1, "", TAGS[1], b"", 5_000), at=2)
    assert denied(TAGS[1], C)
    assert "t2" not in view.denying
    ends = [DenialEnd(f"blacklist/t1/e{n}", 2, 1_000) for n in (1, 2)]
    feed(view.apply, *ends, at=3)
    assert not denied()
    assert "t1" not in view.denying


def test_freshness(view: MemoryView | LmdbView) -> None:
    assert view.fresh_ms() == 0
    view.tick(0.0)
    assert view.fresh_ms() == 0
    view.tick(1234.5)
    assert view.fresh_ms() == 1_234_500


def test_a_reader_without_a_view_waits_for_one(tmp_path: Path, remote: RemoteReader) -> None:
    remote.open(tmp_path)
    assert remote.call("find", NUMBER, A).tenants == ()
    assert (remote.call("fresh_ms"), remote.call("wrapped", "k")) == (0, None)
    writer = ViewWriter(tmp_path)
    feed(writer.apply, route(tags=TAGS))
    remote.call("refresh")
    assert remote.call("find", NUMBER, A).entry is not None
    writer.close()
    remote.call("close")
    assert remote.call("find", NUMBER, A).tenants == ()


def test_a_reader_moves_to_a_rebuilt_file(tmp_path: Path, remote: RemoteReader) -> None:
    first = ViewWriter(tmp_path)
    feed(first.apply, route(tags=TAGS))
    remote.open(tmp_path)
    first.close()
    viewfile.current(tmp_path).with_suffix(".lmdb.state").unlink()
    second = ViewWriter(tmp_path)
    assert remote.call("find", NUMBER, A).entry is not None  # the old file still answers
    remote.call("refresh")
    assert remote.call("find", NUMBER, A).tenants == ()
    feed(second.apply, route(tags=TAGS))
    assert remote.call("find", NUMBER, A).entry is not None
    second.close()


def test_the_map_grows_under_a_reader(
    tmp_path: Path, remote: RemoteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader meets MDB_MAP_RESIZED and goes on."""
    monkeypatch.setattr(viewfile, "_FIRST_MAP", 512 * 1024)
    writer = ViewWriter(tmp_path)
    feed(writer.apply, route(tags=TAGS))
    remote.open(tmp_path)
    before, at = writer._env.info()["map_size"], 1
    while writer._env.info()["map_size"] < 8 * before:
        numbers = [2 * i for i in range(at, at + 500)]
        changes = [route(f"b{n}", tags=(n.to_bytes(16), (n + 1).to_bytes(16))) for n in numbers]
        feed(writer.apply, *changes, at=at)
        at += 500
        assert remote.call("find", NUMBER, A).entry is not None
    writer.close()


def test_threads_read_while_the_map_grows(tmp_path: Path) -> None:
    """Several threads of one process share a reader; the writer is another process."""
    writer = ViewWriter(tmp_path)
    feed(writer.apply, route(tags=TAGS))
    writer.close()
    reader = ViewReader(tmp_path, TAGGER)
    found: list[bool] = []

    def read() -> None:
        found.extend(reader.find(NUMBER, A).entry is not None for _ in range(200))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        reader.refresh()
    for thread in threads:
        thread.join()
    assert found == [True] * 800
    reader.close()


def test_nobody_reads_a_file_while_its_size_changes(tmp_path: Path) -> None:
    writer = ViewWriter(tmp_path)
    feed(writer.apply, route(tags=TAGS))
    writer.close()
    reader = ViewReader(tmp_path, TAGGER)
    opened, found, met, changing = reader._opened, list[bool](), list[str](), threading.Event()
    assert opened is not None
    begin: Any = opened.begin
    running, stop = list[None](), threading.Event()

    class Watched:
        def __init__(self) -> None:
            running.append(None)
            if changing.is_set():
                met.append("a transaction began during the change")
            self._txn = begin()
            self.get = self._txn.get

        def abort(self) -> None:
            self._txn.abort()
            running.pop()

    def change(_: object) -> None:
        changing.set()
        if running:
            met.append("a transaction was open at the change")
        begin.__self__.set_mapsize(0)
        for _ in range(5000):  # the others get their turn
            pass
        changing.clear()

    def read() -> None:
        while not stop.is_set():
            found.append(reader.find(NUMBER, A).entry is not None)

    opened.begin = Watched  # type: ignore[assignment]
    thread = threading.Thread(target=read)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # else threads take turns in the one place that is safe anyway
    try:
        thread.start()
        for _ in range(100):
            reader._alone(opened, change)
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()
    assert found
    assert all(found)
    assert not met
    reader.close()


def test_a_file_is_closed_when_its_last_reader_is_done(tmp_path: Path) -> None:
    writer = ViewWriter(tmp_path)
    feed(writer.apply, route(tags=TAGS))
    writer.close()
    reader = ViewReader(tmp_path, TAGGER)
    opened, txn = reader._begin()
    assert opened is not None
    closing = threading.Thread(target=reader.close)
    closing.start()
    while reader.find(NUMBER, A).tenants:  # it is gone for new calls at once
        pass
    assert closing.is_alive()
    assert txn.get(NUMBER[:11].encode(), db=opened.blocks) is not None
    txn.abort()
    opened.reading.pop()
    closing.join(5)
    assert not closing.is_alive()


def test_a_crash_keeps_view_and_positions_together(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from services.router.store import ViewWriter\n"
        "from services.runtime.record import Record\n"
        "from tests.unit.router.routes import route, TAG_A, TAG_B\n"
        "w = ViewWriter(Path(sys.argv[1]))\n"
        "w.apply([(Record('routes', 0, 0, b'', b'', [], 0), route())], {('routes', 0): 1})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    writer = ViewWriter(tmp_path)
    assert writer.rebuilt_because == ""
    assert writer.positions() == {("routes", 0): 1}
    feed(writer.apply, tombstone(), at=1)
    writer.close()


def test_another_route_of_a_known_version_is_parked(tmp_path: Path, remote: RemoteReader) -> None:
    parking = MemoryParking()
    writer = ViewWriter(tmp_path, parking=parking)
    known, again = route(tags=TAGS), route(tags=TAGS)
    other = replace(known, expire_ms=known.expire_ms + 1)
    feed(writer.apply, known, again, other)
    assert [(each.offset, why) for each, why in parking.parked] == [(2, "VERSION_CONTRADICTED")]
    released = replace(known, active=False, callee_a=Copy("", b""), callee_b=Copy("", b""))
    feed(writer.apply, released, at=3)
    assert len(parking.parked) == 2
    remote.open(tmp_path)
    entry = remote.call("find", NUMBER, A).entry
    assert (entry.expire_ms, entry.active) == (known.expire_ms, True)
    feed(writer.apply, Tombstone(known.number, known.binding, known.version, 1), known, at=4)
    assert len(parking.parked) == 2  # a repeat behind its tombstone is no contradiction
    writer.close()
