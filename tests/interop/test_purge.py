"""Retention (R16): a purge bucket ends, nothing in the log changes, and stock verifiers go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axbridge.binding.v1 import events_pb2 as binding

from services.audit.checkpoint import NoteVerifier
from services.audit.domain import Query
from services.audit.handlers import Found
from services.audit.index import SqliteIndex
from services.audit.tlogproof import OfflineProof
from services.audit.verify import verify_folder
from services.runtime.phone import PhoneNumber
from tests.audit_events import TIME_MS, created, number
from tests.audit_world import World
from tests.interop.test_go_verifier import Check, logcheck  # noqa: F401 (a fixture)

CALLER = PhoneNumber("+8613800138001")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_purge_between_two_checks(world: World, logcheck: Check, tmp_path: Path) -> None:  # noqa: F811
    vkey = world.log.published().vkey
    tags = world.tagger.party("taxi", CALLER.e164), b"b" * 16
    sealed = created(
        "b1", world.sealer, order="order-7", serial=1, tags=tags, until_ms=TIME_MS + 1000
    )
    bucket = sealed.secrets.key_id
    world.add("e0", created("b0"), TIME_MS)
    world.add("e1", sealed, TIME_MS)
    for leaf in range(2, 300):
        world.add(f"e{leaf}", created(f"b{leaf}"), TIME_MS + leaf)

    def leaves(query: Query) -> list[int]:
        return [event.leaf for event in world.audit.query_events(query).events]

    def check() -> bytes:
        verdict = verify_folder(world.served, vkey)
        assert verdict.ok, verdict
        done = logcheck(world.served, vkey)
        assert done.returncode == 0, done.stdout + done.stderr
        (found,) = world.tracer.trace(number(1), TIME_MS, None, prove=True).bindings
        assert isinstance(found.event, Found)
        return found.event.entry

    by_order = Query(tenant="taxi", order_id="order-7")
    by_party = Query(tenant="taxi", party=CALLER)
    assert leaves(by_order) == leaves(by_party) == [1]
    assert len(world.tracer.trace(number(1), TIME_MS, CALLER, prove=False).bindings) == 1
    before = check()
    receipt = world.audit.receipt("e1")
    kept = OfflineProof(receipt.proof.leaf, receipt.proof.hashes, receipt.proof.note).render()

    world.ring.destroy(bucket)
    world.add("purge", binding.BucketPurged(tenant="taxi", bucket=bucket), TIME_MS + 9_000)

    assert check() == before  # octet for octet, though nobody can open it any more
    assert leaves(by_order) == leaves(by_party) == []
    traced = world.tracer.trace(number(1), TIME_MS, CALLER, prove=False)
    assert (list(traced.bindings), traced.erased) == ([], 1)
    assert leaves(Query(type="axbridge.binding.v1.BucketPurged")) == [300]
    verifier = NoteVerifier.parse(vkey)
    OfflineProof.parse(kept).check(receipt.entry, [verifier], verifier.name)
    anew = SqliteIndex(tmp_path / "anew")  # made from the log after the purge: no tags either
    indexer = world.indexer_of(anew)
    while indexer.advance():
        pass
    assert (anew.size, anew.parties(1)) == (301, frozenset())
    anew.close()
