"""A blacklist over all processes: refused at bind and at call, in every router, until it ends."""

import time
import uuid
from functools import partial
from typing import Any

import grpc
from axbridge.binding.v1 import blacklist_pb2, blacklist_service_pb2, blacklist_service_pb2_grpc
from axbridge.type.v1.phone_number_pb2 import PhoneNumber
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.local.waiting import eventually
from tests import scene
from tests.scene import Scene, digits, refusal, routes

pb = blacklist_service_pb2
LISTED = (grpc.StatusCode.FAILED_PRECONDITION, "PARTY_BLACKLISTED")


class Lists:
    def __init__(self, stage: Scene) -> None:
        self.tenant = f"tenants/{stage.tenant}"
        self.stub: Any = blacklist_service_pb2_grpc.BlacklistServiceStub(stage.platform.channel)

    def add(self, caller: str, callee: str = "", seconds: float = 600, pool: str = "") -> Any:
        until = Timestamp()
        until.FromMilliseconds(int((time.time() + seconds) * 1000))
        request = pb.AddBlacklistEntryRequest(
            parent=self.tenant, request_id=str(uuid.uuid4()), expire_time=until, pool=pool
        )
        if callee:
            request.pair.caller.e164, request.pair.callee.e164 = caller, callee
        else:
            request.number.CopyFrom(PhoneNumber(e164=caller))
        return self.stub.AddBlacklistEntry(request)


def test_a_listed_caller_is_neither_bound_nor_connected_until_the_end(stage: Scene) -> None:
    stage.pool("rides")
    lists, a, b = Lists(stage), stage.mobile(), stage.mobile()
    x = digits(stage.platform.bind("rides", a, b, "trip-1"))
    routes(stage, a, x, b)
    entry = lists.add(a, b, pool=f"{lists.tenant}/pools/rides")
    assert refusal(lambda: stage.platform.bind("rides", a, b, "trip-2")) == LISTED
    routes(stage, a, x, "BLACKLISTED")
    routes(stage, b, x, a)
    lists.stub.RemoveBlacklistEntry(pb.RemoveBlacklistEntryRequest(name=entry.name))
    routes(stage, a, x, b)
    y = digits(stage.platform.bind("rides", a, b, "trip-2"))
    brief = lists.add(b, seconds=12)
    assert refusal(lambda: stage.platform.bind("rides", b, a, "trip-3")) == LISTED
    routes(stage, b, y, "BLACKLISTED")
    routes(stage, a, y, b)
    routes(stage, b, y, a)  # its time is over
    stage.platform.bind("rides", b, stage.mobile(), "trip-3")
    get = pb.GetBlacklistEntryRequest(name=brief.name)
    eventually(
        lambda: lists.stub.GetBlacklistEntry(get).version == 2,
        scene.PATIENCE,
        what="an end that is written down",
    )
    expired = lists.stub.GetBlacklistEntry(get)
    assert expired.state == blacklist_pb2.BLACKLIST_ENTRY_STATE_EXPIRED
    for kind in ("Added", "Removed"):
        told = f"axbridge.binding.v1.BlacklistEntry{kind}"
        query = partial(stage.auditor.query, tenant=stage.tenant, type=told)
        eventually(
            lambda query=query: len(query()) == 2,  # type: ignore[misc]
            scene.PATIENCE,
            what=f"a log that tells of {kind}",
        )
    scene.sound(stage.cluster)
