"""Pages and proofs, each answer from one published state."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.audit import merkle
from services.audit.domain import IndexRow, Query
from services.audit.entry import event_of, types_of
from services.audit.handlers import Audit
from services.audit.logfolder import Event
from services.audit.proof import check_consistency, check_inclusion
from services.runtime.errors import AxbridgeError, InvalidArgument, NotFound, Unavailable
from services.runtime.phone import PhoneNumber
from services.runtime.topics import BINDING_BINDINGS
from tests.audit_events import created, record
from tests.unit.audit.memory_index import MemoryArrivals, MemoryIndex, MemoryLog


def events(count: int, size: int = 1) -> list[Event]:
    types = types_of(BINDING_BINDINGS)
    records = [record(created("b" * size), f"e{n}", offset=n) for n in range(count)]
    return [event_of(some, types) for some in records]


class Fixture:
    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.index = MemoryIndex()
        self.asked: list[str] = []
        self.arrivals = MemoryArrivals(self.index)
        self.audit = Audit(log, self.index, self.arrivals, self)

    def party(self, tenant: str, e164: str) -> bytes:
        return e164[-1].encode()

    def order(self, tenant: str, order_id: str) -> bytes:
        self.asked.append(tenant)
        return order_id.encode()

    def fill(self, count: int, size: int = 1) -> None:
        self.log.append(*events(count, size))
        self.index.add(
            [
                IndexRow(
                    n,
                    f"e{n}",
                    "t",
                    n,
                    "taxi",
                    order_tag=b"o" if n % 2 else None,
                    parties=(b"%d" % (n % 3),),
                )
                for n in range(count)
            ]
        )


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fixture]:
    with MemoryLog.made(tmp_path) as log:
        yield Fixture(log)


def pages(audit: Audit, **fields: object) -> list[list[int]]:
    found: list[list[int]] = []
    token = ""
    while token or not found:
        page = audit.query_events(Query(page_token=token, **fields))  # type: ignore[arg-type]
        found.append([event.leaf for event in page.events])
        token = page.next_token
    return found


def test_pages_join_without_a_seam(made: Fixture) -> None:
    made.fill(10)
    assert pages(made.audit, page_size=4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert pages(made.audit, page_size=5) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert pages(made.audit, tenant="taxi", order_id="o") == [[1, 3, 5, 7, 9]]


def test_a_page_ends_before_it_is_too_large(made: Fixture) -> None:
    made.fill(60, 60_000)
    found = pages(made.audit, page_size=1000)
    assert [leaf for page in found for leaf in page] == list(range(60))
    assert [len(page) for page in found] == [52, 8]


def test_a_person_is_found_by_the_tag(made: Fixture) -> None:
    made.fill(7)
    one, nobody = PhoneNumber("+8613800138001"), PhoneNumber("+8613800138009")
    assert pages(made.audit, tenant="taxi", party=one) == [[1, 4]]
    assert pages(made.audit, tenant="taxi", party=nobody) == [[]]
    assert pages(made.audit, tenant="never", party=one) == [[]]
    with pytest.raises(InvalidArgument):
        Query(party=one)
    assert "8001" not in repr(Query(tenant="taxi", party=one))


def test_each_event_of_a_page_is_proven(made: Fixture) -> None:
    made.fill(300)
    page = made.audit.query_events(Query(prove=True, page_size=120))
    published = made.log.published()
    root = published.tree.prover().root()
    assert page.note == published.note
    for event in page.events:
        assert event.proof is not None
        assert (event.proof.leaf, event.proof.note) == (event.leaf, b"")
        leaf = merkle.leaf_hash(event.entry)
        check_inclusion(leaf, event.leaf, event.proof.size, list(event.proof.hashes), root)
    plain = made.audit.query_events(Query())
    assert (plain.note, plain.events[0].proof) == (b"", None)


def test_a_tenant_that_never_was_gets_no_tag_key(made: Fixture) -> None:
    made.fill(4)
    assert pages(made.audit, tenant="nobody", order_id="o") == [[]]
    assert made.asked == []


def test_leaves_beyond_the_published_tree_are_not_shown(made: Fixture) -> None:
    made.fill(3)
    made.index.add([IndexRow(3, "e3", "t", 3)])  # as if the index had run ahead
    assert pages(made.audit) == [[0, 1, 2]]


def test_inclusion_at_every_size(made: Fixture) -> None:
    made.fill(300)
    root = {n: merkle.root_of(merkle.leaf_hashes(e.entry for e in events(n))) for n in (7, 257)}
    for size in root:
        proof = made.audit.prove_event("e5", size)
        assert proof.note == b""
        check_inclusion(proof.leaf_hash, 5, size, list(proof.hashes), root[size])
    newest = made.audit.prove_leaf(5, 0)
    assert (newest.size, newest.note) == (300, made.audit.checkpoint()[0].note)


def test_consistency_between_any_sizes(made: Fixture) -> None:
    made.fill(300)
    leaves = [event.entry for event in events(300)]
    for old, new in ((0, 300), (1, 2), (100, 257), (257, 257)):
        roots = [made.audit.checkpoint()[0].tree.prover(size).root() for size in (old, new)]
        assert roots[1] == merkle.root_of(merkle.leaf_hashes(leaves[:new]))
        proof = made.audit.prove_growth(old, new)
        check_consistency(old, roots[0], new, roots[1], list(proof.hashes))
    assert made.audit.prove_growth(5, 0).second == 300


@pytest.mark.parametrize(
    ("call", "kind", "reason"),
    [
        (lambda audit: audit.prove_event("none", 0), NotFound, "EVENT_NOT_FOUND"),
        (lambda audit: audit.prove_event("", 0), InvalidArgument, "INVALID_FIELD"),
        (lambda audit: audit.prove_leaf(-1, 0), InvalidArgument, "INVALID_FIELD"),
        (lambda audit: audit.prove_leaf(0, -1), InvalidArgument, "INVALID_FIELD"),
        (lambda audit: audit.prove_leaf(3, 0), InvalidArgument, "TREE_SIZE_INVALID"),
        (lambda audit: audit.prove_leaf(1, 1), InvalidArgument, "TREE_SIZE_INVALID"),
        (lambda audit: audit.prove_leaf(0, 4), InvalidArgument, "TREE_SIZE_INVALID"),
        (lambda audit: audit.prove_growth(-1, 0), InvalidArgument, "INVALID_FIELD"),
        (lambda audit: audit.prove_growth(0, -1), InvalidArgument, "INVALID_FIELD"),
        (lambda audit: audit.prove_growth(4, 0), InvalidArgument, "TREE_SIZE_INVALID"),
        (lambda audit: audit.prove_growth(2, 1), InvalidArgument, "TREE_SIZE_INVALID"),
    ],
)
def test_refusals(made: Fixture, call: object, kind: type[AxbridgeError], reason: str) -> None:
    made.fill(3)
    with pytest.raises(kind) as caught:
        call(made.audit)  # type: ignore[operator]
    assert caught.value.reason == reason


def test_a_receipt_waits_for_its_event(made: Fixture) -> None:
    def arrives(low: int, high: int) -> None:
        made.log.append(*events(high)[low:])
        made.index.add([IndexRow(n, f"e{n}", "t", n) for n in range(low, high)])

    arrives(0, 2)
    made.arrivals.steps = [lambda: arrives(2, 4), lambda: arrives(4, 5)]
    receipt = made.audit.receipt("e4")
    assert receipt.entry == events(5)[4].entry
    assert (receipt.proof.size, receipt.proof.note) == (5, made.audit.checkpoint()[0].note)
    assert made.audit.receipt("e0").proof.leaf == 0
    with pytest.raises(NotFound):
        made.audit.receipt("e5")
    with pytest.raises(InvalidArgument):
        made.audit.receipt("")


def test_few_receipts_may_wait_at_a_time(made: Fixture) -> None:
    made.fill(1)
    depths: list[int] = []
    depth = 0

    def another() -> None:
        nonlocal depth
        depth += 1
        depths.append(depth)
        if len(depths) < 20:
            made.arrivals.steps.append(another)
        with pytest.raises(NotFound):
            made.audit.receipt("none")
        depth -= 1

    made.arrivals.steps = [another]
    with pytest.raises(NotFound):
        made.audit.receipt("none")
    assert max(depths) == 8  # the ninth was answered at once


def test_a_receipt_against_what_is_witnessed(made: Fixture) -> None:
    made.fill(3)
    with pytest.raises(Unavailable):
        made.audit.receipt("e0", witnessed=True)
    made.log.witness()
    made.log.append(*events(4)[3:])
    made.index.add([IndexRow(3, "e3", "t", 3)])
    receipt = made.audit.receipt("e0", witnessed=True)
    assert (receipt.proof.size, receipt.proof.note[-9:]) == (3, b"cosigned\n")
    with pytest.raises(Unavailable):
        made.audit.receipt("e3", witnessed=True)
    assert made.audit.receipt("e3").proof.size == 4
