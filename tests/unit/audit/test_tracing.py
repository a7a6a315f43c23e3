"""Who was behind a number at a moment: what is live, whom it concerns, and what is erased."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.audit import merkle
from services.audit.domain import IndexRow
from services.audit.logfolder import Event
from services.audit.proof import check_inclusion
from services.audit.tracing import MOST_TRACED, Moment, Trace, Tracer
from services.runtime.errors import InvalidArgument
from services.runtime.phone import PhoneNumber
from tests.unit.audit.memory_index import MemoryIndex, MemoryLog

X = "700100000010001"
CALLER = PhoneNumber("+8613800138001")


class Tags:
    def party(self, tenant: str, e164: str) -> bytes:
        return f"{tenant}{e164[-1]}".encode()

    def order(self, tenant: str, order_id: str) -> bytes:
        raise AssertionError("nobody asks for an order")


@dataclass
class Fixture:
    log: MemoryLog
    index: MemoryIndex
    moments: list[Moment]

    def add(
        self,
        binding: str,
        time_ms: int,
        moment: Moment,
        parties: tuple[bytes, ...] = (b"taxi1", b"taxi2"),
        kind: str = "created",
    ) -> None:
        leaf = len(self.moments)
        self.moments.append(moment)
        self.log.append(Event(b"e%d" % leaf, b"%d" % leaf))
        until = time_ms if moment.ended else moment.expire_ms
        row = IndexRow(
            leaf, f"e{leaf}", kind, time_ms, "taxi", binding, numbers=(X,),
            parties=parties, bucket="bucket", until_ms=until, ended=moment.ended,
        )  # fmt: skip
        self.index.add([row])

    def trace(self, at_ms: int, caller: PhoneNumber | None = None, prove: bool = False) -> Trace:
        types = ("created", "updated", "released")
        read = lambda entry: self.moments[int(entry)]  # noqa: E731
        tracer = Tracer(self.log, self.index, Tags(), types, read)
        return tracer.trace(X, at_ms, caller, prove=prove)

    def found(self, at_ms: int, caller: PhoneNumber | None = None) -> list[tuple[str, int, str]]:
        traced = self.trace(at_ms, caller).bindings
        return [(each.binding, each.event.leaf, each.role) for each in traced]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fixture]:
    with MemoryLog.made(tmp_path, lambda entry: b"e" + entry) as log:
        yield Fixture(log, MemoryIndex(), [])


def lives(start_ms: int, expire_ms: int, *, open: bool = False) -> Moment:
    return Moment(start_ms, expire_ms, ended=False, open=open)


def test_the_newest_event_of_the_time_decides(made: Fixture) -> None:
    made.add("a", 100, lives(0, 500))
    made.add("a", 200, lives(0, 300), kind="updated")  # ends earlier than was said
    made.add("a", 250, lives(0, 900), kind="updated")
    made.add("a", 600, Moment(0, 0, ended=True, open=False), kind="released")
    made.add("b", 100, lives(150, 900))  # begins later
    found = {at: made.found(at) for at in (99, 100, 150, 200, 250, 599, 600)}
    assert found == {
        99: [],
        100: [("a", 0, "none")],
        150: [("a", 0, "none"), ("b", 4, "none")],
        200: [("a", 1, "none"), ("b", 4, "none")],
        250: [("a", 2, "none"), ("b", 4, "none")],
        599: [("a", 2, "none"), ("b", 4, "none")],
        600: [("b", 4, "none")],
    }
    made.add("c", 100, lives(0, 500))
    made.add("c", 200, lives(0, 300), kind="updated")
    assert ("c", 5, "none") in made.found(199)
    assert "c" not in {binding for binding, *_ in made.found(350)}  # though it was to last till 500


def test_a_caller_is_a_party_a_stranger_or_nobody(made: Fixture) -> None:
    made.add("mine", 100, lives(0, 900))
    made.add("theirs", 100, lives(0, 900), (b"taxi7", b"taxi8"))
    made.add("anyone", 100, lives(0, 900, open=True), (b"taxi7",))
    assert made.found(200, CALLER) == [("mine", 0, "party"), ("anyone", 2, "stranger")]
    assert made.trace(200, CALLER).erased == 0
    assert len(made.found(200)) == 3


def test_what_is_erased_is_told_from_no(made: Fixture) -> None:
    made.add("mine", 100, lives(0, 900))
    made.add("theirs", 100, lives(0, 900), (b"taxi7", b"taxi8"))
    made.index.add([IndexRow(2, "e2", "t", 950, "taxi", purged="bucket")])
    traced = made.trace(200, CALLER)
    assert (list(traced.bindings), traced.erased) == ([], 2)
    assert [binding for binding, *_ in made.found(200)] == ["mine", "theirs"]


def test_many_events_of_one_binding(made: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.audit.tracing._EVENTS", 2)
    for number in range(5):
        made.add("a", 100 + number, lives(0, 900), kind="updated" if number else "created")
    assert made.found(300) == [("a", 4, "none")]


def test_each_event_is_proven_when_asked(made: Fixture) -> None:
    for number in range(3):
        made.add(f"b{number}", 100, lives(0, 900))
    traced = made.trace(200, prove=True)
    published = made.log.published()
    assert traced.note == published.note
    for each in traced.bindings:
        proof = each.event.proof
        assert proof is not None
        leaf, root = merkle.leaf_hash(each.event.entry), published.tree.prover().root()
        check_inclusion(leaf, each.event.leaf, 3, list(proof.hashes), root)
    assert made.trace(200).note == b""


def test_refusals(made: Fixture) -> None:
    tracer = Tracer(made.log, made.index, Tags(), (), lambda entry: made.moments[0])
    with pytest.raises(InvalidArgument, match="INVALID_FIELD field=number"):
        tracer.trace("13800138000", 0, None, prove=False)
    row = IndexRow(0, "e", "t", 1, "taxi", "b", numbers=(X,), until_ms=9)
    made.index.rows = [
        IndexRow(n, "e", "t", 1, "taxi", f"b{n}", numbers=(X,), until_ms=9)
        for n in range(MOST_TRACED)
    ]
    assert list(tracer.trace(X, 5, None, prove=False).bindings) == []
    made.index.rows.append(row)
    with pytest.raises(InvalidArgument, match="TRACE_TOO_WIDE limit=1000"):
        tracer.trace(X, 5, None, prove=False)
