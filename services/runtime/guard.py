"""Wraps each rpc handler once, at registration: decoding, deadline, errors and metrics.

One closure a method instead of interceptor objects a call keeps the cost at a few microseconds.
Handlers raise `AxbridgeError`; they never call `context.abort`, and streaming handlers are
generators that take a request iterator (no `context.read` or `write`). A threaded server's handler
may answer octets, written by hand where a message would cost too much; they are sent as is.

The deadline policy: a call whose deadline has passed is not begun. A call without a deadline gets
the server's default bound: in asyncio its handler is cancelled then; a thread cannot be cancelled,
so there the late answer is withheld, and a stream ends.

Invariant: bytes that do not decode, answers that do not encode and every exception end as a gRPC
status made by `status.to_status`; no text of an exception reaches the caller.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any, Final, TypeAlias

import grpc

from services.runtime.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from services.runtime.metrics import Metrics, Name
from services.runtime.status import to_status

# A client without a deadline shows as one of centuries (threads) or as None (asyncio).
_NO_DEADLINE_SECONDS: Final = 10 * 365 * 86_400.0

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in its type stubs only


class Streams:
    """Threads of a threaded server for streams, one each as long as it lasts: of the threads of
    unary calls a few streams would leave none. One more refuses what comes beyond."""

    def __init__(self, most: int) -> None:
        self.places = threading.BoundedSemaphore(most)
        self.pool = ThreadPoolExecutor(most + 1, thread_name_prefix="stream")


@dataclass(frozen=True)
class Guard:
    """What one server's handlers are wrapped with. `*_seconds` bound calls without a deadline."""

    metrics: Metrics
    unary_seconds: float = 10.0
    stream_seconds: float = 3600.0
    streams: Streams | None = None  # of a threaded server

    def threaded(self, method: str, handler: Handler) -> Handler:
        """The handler for a threaded server."""
        if handler.response_streaming:
            behaviour = handler.stream_stream or handler.unary_stream
            if getattr(behaviour, "experimental_non_blocking", False):
                return handler  # health's Watch: answers through a callback, raises nothing
            return _method(handler, self._thread_stream(method, handler, behaviour))
        return _method(handler, self._thread_unary(method, handler))

    def asynchronous(self, method: str, handler: Handler) -> Handler:
        """The handler for an asyncio server."""
        if not handler.response_streaming:
            return _method(handler, self._aio_unary(method, handler))
        behaviour: Any = handler.stream_stream or handler.unary_stream
        if inspect.isasyncgenfunction(behaviour):
            return _method(handler, self._aio_stream(method, handler, behaviour))
        return handler  # health's Watch: writes to the context, which needs its own serializer

    def _recorders(
        self, method: str
    ) -> tuple[Callable[[float], None], Callable[[BaseException], grpc.Status]]:
        metrics = self.metrics

        def failed(error: BaseException) -> grpc.Status:
            status = to_status(error, method)
            metrics.counter(Name.RPC_FAILURES, method=method, code=status.code.name).inc()
            return status

        return metrics.histogram(Name.RPC_SECONDS, method=method).observe, failed

    def _thread_unary(self, method: str, handler: Handler) -> Callable[[Any, Any], Any]:
        observe, failed = self._recorders(method)
        behaviour: Any = handler.stream_unary or handler.unary_unary
        decode, encode = _decoder(handler), _encoder(handler)
        streaming, bound = handler.request_streaming, self.unary_seconds

        def call(raw: Any, context: Any) -> Any:
            started = perf_counter()
            try:
                remaining = context.time_remaining()
                if remaining <= 0:
                    raise _late()
                request = map(decode, raw) if streaming else decode(raw)
                answer = behaviour(request, context)
                if type(answer) is not bytes:
                    answer = encode(answer)
                elapsed = perf_counter() - started
                if elapsed > bound and remaining > _NO_DEADLINE_SECONDS:
                    raise _late()
            except Exception as error:
                observe(perf_counter() - started)
                if _ended(error, context):
                    raise
                context.abort_with_status(failed(error))  # which raises
            observe(elapsed)
            return answer

        return call

    def _thread_stream(
        self, method: str, handler: Handler, behaviour: Any
    ) -> Callable[[Any, Any], Iterator[Any]]:
        observe, failed = self._recorders(method)
        decode, encode = _decoder(handler), _encoder(handler)
        streaming, bound = handler.request_streaming, self.stream_seconds
        places = self.streams.places if self.streams else None

        def call(raw: Any, context: Any) -> Iterator[Any]:
            started = perf_counter()
            placed = places is None or places.acquire(blocking=False)
            try:
                if not placed:
                    raise _overloaded()
                remaining = context.time_remaining()
                if remaining <= 0:
                    raise _late()
                until = started + bound if remaining > _NO_DEADLINE_SECONDS else float("inf")
                for answer in behaviour(map(decode, raw) if streaming else decode(raw), context):
                    if perf_counter() > until:
                        raise _late()
                    yield answer if type(answer) is bytes else encode(answer)
            except Exception as error:
                if _ended(error, context):
                    raise
                context.abort_with_status(failed(error))  # which raises
            finally:
                if placed and places is not None:
                    places.release()
                observe(perf_counter() - started)

        if self.streams is not None:
            call.experimental_thread_pool = self.streams.pool  # type: ignore[attr-defined]
        return call

    def _aio_unary(self, method: str, handler: Handler) -> Callable[[Any, Any], Awaitable[Any]]:
        observe, failed = self._recorders(method)
        behaviour: Any = handler.stream_unary or handler.unary_unary
        decode, encode = _decoder(handler), _encoder(handler)
        streaming, bound = handler.request_streaming, self.unary_seconds

        async def call(raw: Any, context: Any) -> Any:
            started = perf_counter()
            try:
                remaining = context.time_remaining()
                request = _decoded(raw, decode) if streaming else decode(raw)
                if remaining is None or remaining > _NO_DEADLINE_SECONDS:
                    return encode(await _within(bound, behaviour(request, context)))
                if remaining <= 0:
                    raise _late()
                return encode(await behaviour(request, context))
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                _finish(context, failed(error))
                return b""
            finally:
                observe(perf_counter() - started)

        return call

    def _aio_stream(
        self, method: str, handler: Handler, behaviour: Any
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        observe, failed = self._recorders(method)
        decode, encode = _decoder(handler), _encoder(handler)
        streaming, bound = handler.request_streaming, self.stream_seconds

        async def call(raw: Any, context: Any) -> AsyncIterator[Any]:
            started = perf_counter()
            try:
                remaining = context.time_remaining()
                if remaining is not None and remaining <= 0:
                    raise _late()
                endless = remaining is None or remaining > _NO_DEADLINE_SECONDS
                request = _decoded(raw, decode) if streaming else decode(raw)
                # Closed in any case, and at once: what it has under way ends with the call.
                async with contextlib.aclosing(behaviour(request, context)) as answers:
                    while True:
                        left = bound - perf_counter() + started if endless else None
                        try:
                            answer = await _within(left, anext(answers))
                        except StopAsyncIteration:
                            break
                        yield encode(answer)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                _finish(context, failed(error))
            finally:
                observe(perf_counter() - started)

        return call


def _method(handler: Handler, behaviour: Any) -> Handler:
    """A handler of the same shape that takes and gives raw bytes: the behaviour does the rest."""
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(behaviour)


def _decoder(handler: Handler) -> Callable[[Any], Any]:
    parse = handler.request_deserializer or bytes

    def decode(raw: bytes) -> Any:
        try:
            return parse(raw)
        except Exception:
            raise InvalidArgument("REQUEST_MALFORMED", "the request does not decode") from None

    return decode


def _encoder(handler: Handler) -> Callable[[Any], Any]:
    return handler.response_serializer or bytes


async def _decoded(raw: AsyncIterator[Any], decode: Callable[[Any], Any]) -> AsyncIterator[Any]:
    async for item in raw:
        yield decode(item)


async def _within(seconds: float | None, work: Awaitable[Any]) -> Any:
    """The result of the work, or DeadlineExceeded; a time-out of the work's own stays itself."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise _late() from None
        raise


def _overloaded() -> ResourceExhausted:
    return ResourceExhausted("OVERLOADED", retry_after=timedelta(seconds=1))


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("OUTCOME_UNKNOWN", "the time for this call is over")


def _ended(error: Exception, context: Any) -> bool:
    """Whether grpc itself ended the call: the client is gone, or the handler called `abort`."""
    if isinstance(error, grpc.RpcError):
        return not context.is_active()
    return type(error) is Exception and not error.args and context.code() is not None


def _finish(context: Any, status: grpc.Status) -> None:
    """Ends an asyncio call with the status by returning, not by `abort`: grpc's `stop(grace)`
    does not wait for handlers that abort (grpc issue 37239)."""
    context.set_code(status.code)
    context.set_details(status.details)
    context.set_trailing_metadata(status.trailing_metadata)
