"""BlacklistService over gRPC, on real brokers, with allocator stood in for."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from axbridge.binding.v1 import (
    binding_pb2,
    blacklist_pb2,
    blacklist_service_pb2,
    blacklist_service_pb2_grpc,
    events_pb2,
)
from axbridge.type.v1.phone_number_pb2 import PhoneNumber

from tests.component.binding_world import (
    POOL,
    TENANT,
    A,
    B,
    C,
    World,
    ahead,
    published,
    refusal,
    until,
    world,
)
from tests.factories import unique

pb = blacklist_service_pb2
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
LISTED = "FAILED_PRECONDITION PARTY_BLACKLISTED"


class Listing:
    """A world and the stub of the service."""

    def __init__(self, w: World) -> None:
        self.w = w
        self.stub: Any = blacklist_service_pb2_grpc.BlacklistServiceStub(w.channel)

    async def add(self, caller: str = A, callee: str = "", **fields: Any) -> Any:
        given: dict[str, Any] = {
            "parent": TENANT, "request_id": str(uuid.uuid4()), "expire_time": ahead(3600),
        } | fields  # fmt: skip
        if callee:
            given["pair"] = pb.NumberPair(
                caller=PhoneNumber(e164=caller), callee=PhoneNumber(e164=callee)
            )
        else:
            given["number"] = PhoneNumber(e164=caller)
        return await self.stub.AddBlacklistEntry(pb.AddBlacklistEntryRequest(**given), timeout=10)

    async def get(self, name: str) -> Any:
        return await self.stub.GetBlacklistEntry(pb.GetBlacklistEntryRequest(name=name), timeout=5)

    async def remove(self, name: str) -> Any:
        request = pb.RemoveBlacklistEntryRequest(name=name)
        return await self.stub.RemoveBlacklistEntry(request, timeout=10)

    async def list(self, **fields: Any) -> Any:
        request = pb.ListBlacklistEntriesRequest(**({"parent": TENANT} | fields))
        return await self.stub.ListBlacklistEntries(request, timeout=5)


@pytest.fixture
async def c(kafka_bootstrap: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Listing]:
    async with world(kafka_bootstrap, valkey_url, tmp_path, minimum_life_seconds=1) as made:
        yield Listing(made)


async def test_what_is_listed_is_not_bound_and_what_is_removed_is(c: Listing) -> None:
    await c.w.create()
    made = await c.add(pool=POOL)
    assert (made.kind, made.pool) == (blacklist_pb2.BLACKLIST_KIND_NUMBER, POOL)
    assert await refusal(c.w.create()) == LISTED
    assert await refusal(c.w.create(number_a=PhoneNumber(e164=C))) == "OK"
    exists = "ALREADY_EXISTS BLACKLIST_ENTRY_EXISTS"
    assert await refusal(c.add(pool=POOL)) == exists
    removed = await c.remove(made.name)
    assert removed.state == blacklist_pb2.BLACKLIST_ENTRY_STATE_REMOVED
    assert await c.remove(made.name) == removed == await c.get(made.name)
    assert await refusal(c.w.create()) == "OK"
    await c.add(A, B)
    assert await refusal(c.w.create()) == LISTED
    one_way = c.w.create(direction=binding_pb2.CALL_DIRECTION_B_TO_A)
    assert await refusal(one_way) == "OK"


async def test_entries_are_read_and_listed(c: Listing) -> None:
    request_id = str(uuid.uuid4())
    at = ahead(1800)
    first = await c.add(request_id=request_id, expire_time=at)
    assert await c.add(request_id=request_id, expire_time=at) == first
    assert await refusal(c.add(B, request_id=request_id)) == "ALREADY_EXISTS REQUEST_ID_REUSED"
    pair, other = await c.add(A, B), await c.add(C)
    assert list((await c.list()).entries) == [first, pair, other]
    assert list((await c.list(number=PhoneNumber(e164=A))).entries) == [first, pair]
    page = await c.list(page_size=2)
    rest = await c.list(page_size=2, page_token=page.next_page_token)
    assert (list(rest.entries), rest.next_page_token) == ([other], "")
    not_found = "NOT_FOUND BLACKLIST_ENTRY_NOT_FOUND"
    foreign = first.name.replace(TENANT, "tenants/other")
    assert await refusal(c.get(foreign)) == await refusal(c.remove(foreign)) == not_found
    assert await refusal(c.add("12")) == "INVALID_ARGUMENT PARTY_NUMBER_INVALID"
    assert await refusal(c.add(A, A)) == "INVALID_ARGUMENT PARTIES_EQUAL"
    assert await refusal(c.add(expire_time=ahead(-5))) == "INVALID_ARGUMENT EXPIRY_PAST"


async def test_an_entry_ends_by_itself_and_leaves_nothing_for_routers(c: Listing) -> None:
    made = await c.add(expire_time=ahead(5))
    assert await refusal(c.w.create()) == LISTED
    await until(lambda: len(published(c.w, "binding.denials.v1")) == 2)
    ended = await c.get(made.name)
    assert ended.state == blacklist_pb2.BLACKLIST_ENTRY_STATE_EXPIRED
    assert ended.version == 2
    assert ended.end_time.ToNanoseconds() >= made.expire_time.ToNanoseconds()
    assert await refusal(c.w.create()) == "OK"
    denial, gone = published(c.w, "binding.denials.v1")
    identity = made.name.rpartition("/")[2]
    assert events_pb2.Denial.FromString(denial.value).entry == identity
    assert (gone.key, gone.value) == (f"blacklist/didi/{identity}".encode(), None)
    told = published(c.w, "binding.blacklists.v1")
    assert [dict(r.headers)["ce_id"].decode() for r in told] == [f"{identity}-1", f"{identity}-2"]
    kinds = [dict(r.headers)["ce_type"].decode().rpartition(".")[2] for r in told]
    assert kinds == ["BlacklistEntryAdded", "BlacklistEntryRemoved"]
    for record in (*told, denial, gone, *published(c.w, "binding.state.v1")):
        text = (record.key or b"") + (record.value or b"") + repr(record.headers).encode()
        assert A[3:].encode() not in text


async def test_a_second_process_knows_what_the_first_listed(c: Listing) -> None:
    made = await c.add()
    async with c.w.running():
        other = Listing(c.w)
        assert await other.get(made.name) == made
        assert await refusal(c.w.create()) == LISTED


async def test_no_entry_for_a_tenant_with_several_cells(c: Listing) -> None:
    cells = {"wide": (c.w.settings.cell, unique("d")[:24].translate(_LETTERS))}
    c.w.settings = c.w.settings.model_copy(update={"tenant_cells": cells})
    async with c.w.running():
        wide = Listing(c.w)
        refused = "UNIMPLEMENTED BLACKLIST_NEEDS_ONE_CELL"
        assert await refusal(wide.add(parent="tenants/wide")) == refused
        assert await refusal(wide.list(parent="tenants/wide")) == refused
        assert await refusal(wide.list()) == "OK"


async def test_random_bytes_are_refused_not_fatal(c: Listing) -> None:
    for method in ("AddBlacklistEntry", "RemoveBlacklistEntry", "GetBlacklistEntry"):
        call = c.w.channel.unary_unary(f"/axbridge.binding.v1.BlacklistService/{method}")
        for raw in (b"\xff" * 40, b"\x0a\x05abc", bytes(range(256))):
            assert (await refusal(call(raw, timeout=5))).startswith("INVALID_ARGUMENT")
    await asyncio.gather(c.add(), c.add(B))
