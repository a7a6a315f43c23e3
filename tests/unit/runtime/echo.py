"""A tiny hand-made service, so that these tests do not depend on anyone's protos."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from services.runtime.errors import ResourceExhausted

SERVICE = "axbridge.test.Echo"
NUMBER = "13812345678"


def register(servicer: Any, server: Any) -> None:
    """What generated code calls `add_EchoServicer_to_server`."""
    codecs: dict[str, Any] = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(servicer.unary, **codecs),
        "Down": grpc.unary_stream_rpc_method_handler(servicer.down, **codecs),
        "Up": grpc.stream_unary_rpc_method_handler(servicer.up, **codecs),
        "Both": grpc.stream_stream_rpc_method_handler(servicer.both, **codecs),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def decide(text: str) -> StringValue:
    """The answer to a text; some texts fail, one of them with a number in the exception."""
    if text == "exhausted":
        raise ResourceExhausted("POOL_EXHAUSTED", pool="p1")
    if text == "crash":
        raise ValueError(f"cannot dial {NUMBER}")
    if text == "missing":
        raise NotImplementedError("Method not implemented!")
    if text == "wrong":
        return "not a message"  # type: ignore[return-value]
    return StringValue(value=text)


class Echo:
    """The synchronous servicer. `hold` blocks until `release` is set."""

    def __init__(self) -> None:
        self.held, self.release = threading.Event(), threading.Event()
        self.seen: list[str] = []

    def unary(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        self.seen.append(request.value)
        if request.value == "hold":
            self.held.set()
            self.release.wait(10)
        if request.value == "abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "by hand")
        if request.value == "slow":
            time.sleep(0.15)
        return decide(request.value)

    def down(self, request: StringValue, _: grpc.ServicerContext) -> Iterator[StringValue]:
        yield StringValue(value="first")
        yield decide(request.value)

    def up(self, requests: Iterator[StringValue], _: grpc.ServicerContext) -> StringValue:
        return decide("".join(request.value for request in requests))

    def both(
        self, requests: Iterator[StringValue], _: grpc.ServicerContext
    ) -> Iterator[StringValue]:
        for request in requests:
            yield decide(request.value)


class AioEcho:
    """The same for asyncio; `hold` waits until `release` is called."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self._wait = wait
        self.cancelled = False

    async def unary(self, request: StringValue, context: Any) -> StringValue:
        if request.value == "hold":
            try:
                await self._wait()
            except BaseException:
                self.cancelled = True
                raise
        if request.value == "abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "by hand")
        return decide(request.value)

    async def down(self, request: StringValue, _: Any) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        if request.value == "hold":
            await self._wait()
        yield decide(request.value)

    async def up(self, requests: AsyncIterator[StringValue], _: Any) -> StringValue:
        return decide("".join([request.value async for request in requests]))

    async def both(
        self, requests: AsyncIterator[StringValue], _: Any
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield decide(request.value)
