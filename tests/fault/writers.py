"""Writers that bind, extend and release without pause while a test does harm to what they write to.

They do as platforms are told: repeat what was refused with UNAVAILABLE, as it was. Invariant: what
is in `Written` was acknowledged, so it must be there afterwards.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import grpc
from axbridge.binding.v1 import binding_pb2, binding_service_pb2

from deploy.local.clients import create_request
from deploy.local.waiting import Late, eventually
from services.runtime.status import reason_of
from tests import scene
from tests.fault.agreement import agree
from tests.scene import Scene, digits, outcome, routes

WRITERS: Final = 6
MOST: Final = 400  # bindings of one writer
RELEASED: Final = binding_pb2.BINDING_STATE_RELEASED


@dataclass
class Written:
    """What one writer was told: answers are promises, refusals are not."""

    bound: dict[str, tuple[binding_service_pb2.CreateBindingRequest, binding_pb2.Binding]] = field(
        default_factory=dict
    )
    updated: dict[str, binding_pb2.Binding] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    refused: "Counter[str]" = field(default_factory=Counter)
    failed: list[BaseException] = field(default_factory=list)


class Writers:
    """Threads that bind, extend and release without pause, and repeat what was refused."""

    def __init__(self, stage: Scene, bindings: Sequence[str] = ("binding",)) -> None:
        """`bindings`: the processes they write to, in turn."""
        self._stage = stage
        self._stop = threading.Event()
        self.written = [Written() for _ in range(WRITERS)]
        stubs = [scene.bare_platform(stage, name) for name in bindings]
        self._threads = []
        for place, written in enumerate(self.written):
            mobiles = [stage.mobile() for _ in range(2 * MOST)]
            mine = stubs[place % len(stubs) :] + stubs[: place % len(stubs)]
            self._threads.append(
                threading.Thread(target=self._write, args=(mine, written, mobiles), daemon=True)
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Until the block ends and each has finished what it was at."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(scene.PATIENCE)

    def go_on(self, bindings: int = 30) -> None:
        """Returns once so many more bindings were acknowledged."""
        had = self._bound()
        eventually(
            lambda: self._bound() >= had + bindings or self._failed(),
            2 * scene.PATIENCE,
            what="writers that go on",
        )

    def _bound(self) -> int:
        return sum(len(written.bound) for written in self.written)

    def _failed(self) -> list[BaseException]:
        return [error for written in self.written for error in written.failed]

    def refused(self) -> "Counter[str]":
        """Reasons by how often."""
        return sum((written.refused for written in self.written), Counter())

    def nothing_is_missing(self) -> None:
        """What was acknowledged is there, in binding, in every router and under its request id; no
        number was given twice, not to those who write now either."""
        stage = self._stage
        for error in self._failed():
            raise error
        for written in self.written:
            all_is_there(stage, written)
        numbers = [digits(bound) for written in self.written for _, bound in written.bound.values()]
        assert len(numbers) == len(set(numbers)), "released numbers cool, others are bound"
        fresh = {
            digits(stage.platform.bind("rides", stage.mobile(), stage.mobile(), "after"))
            for _ in range(30)
        }
        assert len(fresh) == 30
        assert fresh.isdisjoint(numbers)
        agree(stage)
        scene.sound(stage.cluster)

    def _write(self, stubs: list[Any], written: Written, mobiles: list[str]) -> None:
        try:
            while mobiles and not self._stop.is_set():
                a, b = mobiles.pop(), mobiles.pop()
                self._one(stubs, written, a, b)
        except BaseException as error:  # shown by the test, which joins the thread
            written.failed.append(error)

    def _one(self, stubs: list[Any], written: Written, a: str, b: str) -> None:
        request = create_request(self._stage.tenant, "rides", a, b, f"o-{len(written.bound)}")
        bound = self._told(written, stubs, "CreateBinding", request)
        written.bound[bound.name] = request, bound
        if len(written.bound) % 3 == 0:
            longer = binding_service_pb2.UpdateBindingRequest(
                name=bound.name, request_id=str(uuid.uuid4()), version=1
            )
            longer.expire_time.FromDatetime(bound.expire_time.ToDatetime() + timedelta(hours=1))
            written.updated[bound.name] = self._told(written, stubs, "UpdateBinding", longer)
        elif len(written.bound) % 3 == 1:
            ending = binding_service_pb2.ReleaseBindingRequest(name=bound.name)
            assert self._told(written, stubs, "ReleaseBinding", ending).state == RELEASED
            written.released.add(bound.name)

    def _told(self, written: Written, stubs: list[Any], rpc: str, request: Any) -> Any:
        """The answer, after as many repetitions of the same request as it takes, each at the next
        process."""

        reasons: Counter[str] = Counter()

        def asked() -> Any:
            stubs.append(stubs.pop(0))
            try:
                return getattr(stubs[0], rpc)(request, timeout=20)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                reasons[f"{reason_of(error)}"] += 1
                return None

        try:
            return eventually(asked, scene.PATIENCE)
        except Late:
            raise Late(f"{rpc} was refused for too long: {reasons}") from None
        finally:
            written.refused.update(reasons)


def all_is_there(stage: Scene, written: Written) -> None:
    for request, bound in written.bound.values():
        now = stage.platform.get(bound.name)
        assert stage.platform.create(request) == now
        a, b = request.number_a.e164, request.number_b.e164
        if bound.name in written.released:
            assert now.state == RELEASED
            routes(stage, a, digits(bound), "RELEASED")
        else:
            assert now.state == binding_pb2.BINDING_STATE_ACTIVE
            routes(stage, a, digits(bound), b)
            assert outcome(stage.switches[0].call(b, digits(bound))) == a
        if bound.name in written.updated:
            assert now.version >= 2
            assert now.expire_time == written.updated[bound.name].expire_time
