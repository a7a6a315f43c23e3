"""Handing a person's data out: all of it, nobody else's, to the recipient only, and told."""

from collections.abc import AsyncIterator

import pytest
from axbridge.binding.v1 import events_pb2, retention_service_pb2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from services.binding.export import Exports, Take, open_part, sealer_to
from services.binding.ledger import Ledger
from services.runtime.aead import SealBroken
from services.runtime.errors import Aborted, InvalidArgument
from services.runtime.sealing import PurgeSealer
from tests.contract.test_binding_erasure import PARTY, erasures, of_party, request
from tests.contract.test_binding_rebuild import CLOCK, A, B, create, release
from tests.unit.binding.cells import RECORDS, ReadyCell, ready_cell

PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes_raw()


@pytest.fixture
async def cell(valkey_url: str) -> AsyncIterator[ReadyCell]:
    async with ready_cell(valkey_url) as ready:
        yield ready


def exports(ready: ReadyCell) -> Exports:
    async def read(topic: str, take: Take, since_ms: int) -> None:
        found = [record for record in ready.on(topic) if record.timestamp_ms >= since_ms]
        await take(found)
        await take(found)  # published again

    return Exports(
        ready.cell, ready.bindings, Ledger(ready.cell, RECORDS, CLOCK), RECORDS, ready.tags,
        PurgeSealer(ready.keyring), CLOCK, read,
    )  # fmt: skip


async def handed_out(ready: ReadyCell, name: str) -> list[retention_service_pb2.SubjectEvent]:
    boxes = [box async for box in exports(ready).export("didi", PARTY, name, PUBLIC)]
    assert not any(number.e164.encode() in box for box in boxes for number in (A, B))
    parts = [
        retention_service_pb2.SubjectData.FromString(
            open_part(PRIVATE.private_bytes_raw(), "didi", name, number, box)
        )
        for number, box in enumerate(boxes)
    ]
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    return [event for part in parts for event in part.events]


async def test_all_that_is_kept_of_the_person_and_nothing_else(cell: ReadyCell) -> None:
    made, other = await of_party(cell, 1), await create(cell, 2)
    await release(cell, made)
    await release(cell, other)
    name = request()
    events = await handed_out(cell, name)
    assert [event.type.rpartition(".")[2] for event in events] == [
        "BindingCreated",
        "BindingReleased",
    ]
    assert {(e.fact.binding, e.order_id, e.side) for e in events} == {
        (made.id, made.terms.order_id, "A")
    }
    assert made.tag_b not in b"".join(e.SerializeToString() for e in events)
    [record] = cell.on("binding.retention.v1")
    told = events_pb2.SubjectExported.FromString(record.value or b"")
    assert (told.export, told.event_count, len(told.recipient)) == (name, 2, 32)
    assert cell.tags.party("didi", PARTY.e164) not in (record.value or b"")


async def test_many_events_go_in_several_parts(
    cell: ReadyCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.binding.export._PART", 2)
    for epoch in (1, 2, 3):
        await of_party(cell, epoch)
    assert len(await handed_out(cell, request())) == 3


async def test_nothing_is_known_of_a_stranger(cell: ReadyCell) -> None:
    await create(cell, 1)
    assert await handed_out(cell, request()) == []


async def test_what_is_restricted_or_erased_is_not_handed_out(cell: ReadyCell) -> None:
    await of_party(cell, 1)
    await erasures(cell).erase("didi", PARTY, request())
    assert await handed_out(cell, request()) == []
    new = await create(
        cell, 2, tag_b=cell.tags.party("didi", PARTY.e164),
        create_ms=CLOCK.epoch_ms() + 1000, update_ms=CLOCK.epoch_ms() + 1000,
    )  # fmt: skip
    assert [(e.fact.binding, e.side) for e in await handed_out(cell, request())] == [(new.id, "B")]
    cell.keyring.destroy(cell.bindings.bucket(new))
    assert await handed_out_after_purge(cell) == []


async def handed_out_after_purge(ready: ReadyCell) -> list[retention_service_pb2.SubjectEvent]:
    return await exports(ready)._events("didi", ready.tags.party("didi", PARTY.e164))


async def test_one_at_a_time(cell: ReadyCell) -> None:
    await of_party(cell, 1)
    running = exports(cell)
    begun = running.export("didi", PARTY, request(), PUBLIC)
    await anext(begun)
    with pytest.raises(Aborted, match="EXPORT_RUNNING"):
        await anext(running.export("didi", PARTY, request(), PUBLIC))
    with pytest.raises(StopAsyncIteration):
        await anext(begun)


def test_a_part_opens_for_its_recipient_in_its_place_only() -> None:
    box = sealer_to(PUBLIC, "didi", "e1")(0, b"data")
    private = PRIVATE.private_bytes_raw()
    assert open_part(private, "didi", "e1", 0, box) == b"data"
    other = X25519PrivateKey.generate().private_bytes_raw()
    for key, tenant, name, number in (
        (other, "didi", "e1", 0),
        (private, "other", "e1", 0),
        (private, "didi", "e2", 0),
        (private, "didi", "e1", 1),
    ):
        with pytest.raises(SealBroken):
            open_part(key, tenant, name, number, box)


def test_a_key_that_nobody_holds_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="INVALID_FIELD"):
        sealer_to(bytes(32), "didi", "e1")
