"""What a wrapped handler does with deadlines and aborts; the rest is seen through real servers."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.runtime.guard import Guard, Handler
from services.runtime.metrics import Metrics
from tests.unit.runtime.echo import AioEcho, Echo, register

RAW = StringValue(value="slow").SerializeToString()
FOREVER = 1e12


class Aborted(Exception):
    """What this fake's `abort_with_status` raises."""


class Context:
    """The part of a servicer context that the guard uses."""

    def __init__(self, remaining: float | None, *, active: bool = True) -> None:
        self._remaining, self._active = remaining, active
        self.ended: grpc.StatusCode | None = None

    def time_remaining(self) -> float | None:
        return self._remaining

    def is_active(self) -> bool:
        return self._active

    def code(self) -> grpc.StatusCode | None:
        return self.ended

    def abort_with_status(self, status: grpc.Status) -> None:
        self.ended = status.code
        raise Aborted

    def set_code(self, code: grpc.StatusCode) -> None:
        self.ended = code

    def set_details(self, details: str) -> None: ...

    def set_trailing_metadata(self, metadata: object) -> None: ...


class Caught:
    """Collects the handlers of the echo service."""

    def __init__(self, servicer: object) -> None:
        self.handlers: dict[str, Handler] = {}
        register(servicer, self)

    def add_generic_rpc_handlers(self, _: object) -> None: ...

    def add_registered_method_handlers(self, _: str, handlers: dict[str, Handler]) -> None:
        self.handlers = handlers


def guard(unary: float = 10.0, stream: float = 10.0) -> Guard:
    return Guard(Metrics("sample"), unary, stream)


def threaded(name: str, limits: Guard, servicer: Echo | None = None) -> Any:
    handler = limits.threaded(f"t.Echo/{name}", Caught(servicer or Echo()).handlers[name])
    return handler.unary_unary or handler.unary_stream


def asynchronous(name: str, limits: Guard, servicer: AioEcho) -> Any:
    handler = limits.asynchronous(f"t.Echo/{name}", Caught(servicer).handlers[name])
    return handler.unary_unary or handler.unary_stream


def test_a_call_whose_deadline_has_passed_is_not_begun() -> None:
    servicer, context = Echo(), Context(0.0)
    with pytest.raises(Aborted):
        threaded("Unary", guard(), servicer)(RAW, context)
    assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED
    assert servicer.seen == []
    context = Context(0.0)
    with pytest.raises(Aborted):
        list(threaded("Down", guard())(RAW, context))
    assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED


def test_without_a_deadline_a_late_answer_is_withheld() -> None:
    context = Context(FOREVER)
    with pytest.raises(Aborted):
        threaded("Unary", guard(unary=0.1))(RAW, context)
    assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED


def test_with_a_deadline_the_servers_own_bound_does_not_apply() -> None:
    assert threaded("Unary", guard(unary=0.1))(RAW, Context(5.0)) == RAW


def test_octets_are_sent_as_they_are() -> None:
    class Written(Echo):
        def unary(self, request: StringValue, context: object) -> Any:
            return b"written by hand"

    assert threaded("Unary", guard(), Written())(RAW, Context(5.0)) == b"written by hand"


def test_without_a_deadline_a_stream_ends_at_the_bound() -> None:
    context = Context(FOREVER)
    answers = threaded("Down", guard(stream=0.05))(RAW, context)
    assert StringValue.FromString(next(answers)).value == "first"
    time.sleep(0.06)
    with pytest.raises(Aborted):
        next(answers)
    assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED


def test_when_the_client_is_gone_the_error_of_grpc_passes_in_silence() -> None:
    class Gone(Echo):
        def unary(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
            raise grpc.RpcError

    with pytest.raises(grpc.RpcError):
        threaded("Unary", guard(), Gone())(RAW, Context(5.0, active=False))
    with pytest.raises(Aborted):
        threaded("Unary", guard(), Gone())(RAW, Context(5.0, active=True))


async def test_aio_does_not_begin_what_is_late_and_cancels_what_gets_late() -> None:
    servicer = AioEcho(asyncio.Event().wait)
    hold = StringValue(value="hold").SerializeToString()
    unary = asynchronous("Unary", guard(unary=0.02), servicer)
    for remaining, cancelled in ((0.0, False), (None, True)):
        context = Context(remaining)
        assert await unary(hold, context) == b""
        assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED
        assert servicer.cancelled is cancelled


async def test_aio_streams_end_at_the_bound() -> None:
    servicer = AioEcho(asyncio.Event().wait)
    hold = StringValue(value="hold").SerializeToString()
    down = asynchronous("Down", guard(stream=0.02), servicer)
    for remaining, count in ((0.0, 0), (None, 1)):
        context = Context(remaining)
        assert len([answer async for answer in down(hold, context)]) == count
        assert context.ended is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_aio_stream_that_is_given_up_ends_at_once() -> None:
    class Careful(AioEcho):
        ended = False

        async def down(self, request: StringValue, _: Any) -> AsyncIterator[StringValue]:
            try:
                while True:
                    yield request
            finally:
                self.ended = True

    servicer = Careful(asyncio.Event().wait)
    answers = asynchronous("Down", guard(), servicer)(RAW, Context(5.0))
    assert await anext(answers) == RAW
    await answers.aclose()
    assert servicer.ended


async def test_aio_takes_a_time_out_of_the_handlers_own_for_a_bug() -> None:
    async def own() -> None:
        raise TimeoutError

    context = Context(None)
    unary = asynchronous("Unary", guard(), AioEcho(own))
    assert await unary(StringValue(value="hold").SerializeToString(), context) == b""
    assert context.ended is grpc.StatusCode.INTERNAL
