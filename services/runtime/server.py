"""Serves gRPC in one of two ways with one meaning: `AioServer`, and `ThreadedServer` for handlers
that never wait. Both give health, reflection, limits, guarded handlers (`guard`) and a drain.

The drain, on SIGTERM, SIGINT or `request_stop`: health says NOT_SERVING; `drain_seconds` pass, in
which calls are still accepted while balancers notice; no new calls, those in flight get
`grace_seconds`; then the stop callbacks run in the order they were given (consumers, producers,
files), each of them even if an earlier one failed. Refuses to know what is served.

Invariant: a stop callback runs only when no new call can come in, and whatever was answered before
is its to keep.
"""

import asyncio
import contextlib
import inspect
import queue
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2

from services.runtime.guard import Guard, Streams
from services.runtime.metrics import Metrics, Name
from services.runtime.registration import CHANNEL_OPTIONS, Options, Registration
from services.runtime.telemetry import logger

__all__ = ["CHANNEL_OPTIONS", "AioServer", "Options", "ThreadedServer", "run"]
_LOG: Final = logger(__name__)
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

_NOTICE_SECONDS = 0.2


class ThreadedServer:
    """A synchronous server. `ready` is asked in a thread of its own; it must not block for long."""

    def __init__(
        self, options: Options, metrics: Metrics, ready: Callable[[], bool] = lambda: True
    ) -> None:
        self._options, self._metrics, self._ask = options, metrics, ready
        self._registration, self._health = Registration(), health.HealthServicer()
        self._stops: list[tuple[str, Callable[[], None]]] = []
        # SimpleQueue, for its `put` may interrupt its `get` in the same thread (a signal handler)
        self._stop: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._ready, self._draining = False, threading.Event()
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="rpc")
        self._streams = Streams(options.streams)
        self._server: grpc.Server = grpc.server(
            self._pool,
            options=options.channel_arguments(),
            maximum_concurrent_rpcs=options.maximum_concurrent_rpcs,
        )

    def add(self, register: Callable[[Any, Any], None], servicer: object) -> None:
        """Registers a servicer with the generated `add_…Servicer_to_server`; before `start`."""
        register(servicer, self._registration)

    def on_stop(self, name: str, callback: Callable[[], None]) -> None:
        """Adds a step to the end of the drain."""
        self._stops.append((name, callback))

    def start(self) -> int:
        """Serves, and returns the port. Raises RuntimeError if the address cannot be bound."""
        names = [*self._registration.services]
        self._registration.add_own(self._health, aio=False)
        seconds = self._options.unary_seconds, self._options.stream_seconds
        guard = Guard(self._metrics, *seconds, self._streams)
        for service, handlers in self._registration.guarded(guard.threaded).items():
            self._server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]
        port = self._server.add_insecure_port(self._options.listen)
        self._refresh(["", *names])
        self._server.start()
        watch = threading.Thread(
            target=self._watch, args=(["", *names],), name="ready", daemon=True
        )
        watch.start()
        _LOG.info("serving", port=port, services=names)
        return port

    def is_ready(self) -> bool:
        """What readiness was when it was last asked for; False while draining."""
        return self._ready and not self._draining.is_set()

    def request_stop(self, error: BaseException | None = None) -> None:
        """Begins the drain, from any thread or signal handler; `serve` then raises the error."""
        self._stop.put(error)

    def serve(self) -> None:
        """Waits for a reason to stop, then drains. Call it in the main thread, after `start`."""
        before = {
            number: signal.signal(number, lambda *_: self._stop.put(None))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            error = self._reason()
            self.drain()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if error is not None:
            raise error

    def _reason(self) -> BaseException | None:
        """Waits for a reason to stop. Wakes now and then, for the kernel may give the signal to
        another thread, and Python runs its handler only once the main thread moves."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._stop.get(timeout=_NOTICE_SECONDS)

    def drain(self) -> None:
        """The drain. Raises the first error of a stop callback, after all of them ran."""
        _LOG.info("draining")
        self._draining.set()
        self._metrics.gauge(Name.READY).set(0)
        self._health.enter_graceful_shutdown()
        time.sleep(self._options.drain_seconds)
        self._server.stop(self._options.grace_seconds).wait()
        for pool in (self._pool, self._streams.pool):
            pool.shutdown(wait=False, cancel_futures=True)
        first: Exception | None = None
        for name, callback in self._stops:
            try:
                callback()
            except Exception as error:
                _LOG.error("stop callback failed", step=name, type=type(error).__name__)
                first = first or error
        _LOG.info("stopped")
        if first is not None:
            raise first

    def _watch(self, names: list[str]) -> None:
        while not self._draining.wait(self._options.ready_every_seconds):
            self._refresh(names)

    def _refresh(self, names: list[str]) -> None:
        self._ready = _asked(self._ask)
        self._metrics.gauge(Name.READY).set(self.is_ready())
        for name in names:
            self._health.set(name, _SERVING if self._ready else _NOT_SERVING)


class AioServer:
    """An asyncio server; run its wiring with `run`. `ready` is asked in the event loop."""

    def __init__(
        self, options: Options, metrics: Metrics, ready: Callable[[], bool] = lambda: True
    ) -> None:
        self._options, self._metrics, self._ask = options, metrics, ready
        self._registration, self._health = Registration(), health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._stops: list[tuple[str, Callable[[], Awaitable[None] | None]]] = []
        self._loop = asyncio.get_running_loop()
        self._stop: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._ready, self._draining = False, False
        self._server = grpc.aio.server(
            options=options.channel_arguments(),
            maximum_concurrent_rpcs=options.maximum_concurrent_rpcs,
        )

    def add(self, register: Callable[[Any, Any], None], servicer: object) -> None:
        """Registers a servicer with the generated `add_…Servicer_to_server`; before `start`."""
        register(servicer, self._registration)

    def on_stop(self, name: str, callback: Callable[[], Awaitable[None] | None]) -> None:
        """Adds a step to the end of the drain; it may be a coroutine function."""
        self._stops.append((name, callback))

    async def start(self) -> int:
        """Serves, and returns the port. Raises RuntimeError if the address cannot be bound."""
        names = [*self._registration.services]
        self._registration.add_own(self._health, aio=True)
        guard = Guard(self._metrics, self._options.unary_seconds, self._options.stream_seconds)
        for service, handlers in self._registration.guarded(guard.asynchronous).items():
            self._server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]
        port = self._server.add_insecure_port(self._options.listen)
        await self._refresh(["", *names])
        await self._server.start()
        self._watcher = asyncio.create_task(self._watch(["", *names]))
        _LOG.info("serving", port=port, services=names)
        return port

    def is_ready(self) -> bool:
        """What readiness was when it was last asked for; False while draining. Any thread."""
        return self._ready and not self._draining

    def request_stop(self, error: BaseException | None = None) -> None:
        """Begins the drain, from any thread; `serve` then raises the error."""
        self._loop.call_soon_threadsafe(self._stop_once, error)

    async def serve(self) -> None:
        """Waits for a reason to stop, then drains. Call it in the main thread, after `start`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop_once, None)
        try:
            error = await self._stop
            await self.drain()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.remove_signal_handler(number)
        if error is not None:
            raise error

    async def drain(self) -> None:
        """The drain. Raises the first error of a stop callback, after all of them ran."""
        _LOG.info("draining")
        self._draining = True
        self._watcher.cancel()
        self._metrics.gauge(Name.READY).set(0)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._options.drain_seconds)
        await self._server.stop(self._options.grace_seconds)
        first: Exception | None = None
        for name, callback in self._stops:
            try:
                result = callback()
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                _LOG.error("stop callback failed", step=name, type=type(error).__name__)
                first = first or error
        _LOG.info("stopped")
        if first is not None:
            raise first

    def _stop_once(self, error: BaseException | None) -> None:
        if not self._stop.done():
            self._stop.set_result(error)

    async def _watch(self, names: list[str]) -> None:
        while True:
            await asyncio.sleep(self._options.ready_every_seconds)
            await self._refresh(names)

    async def _refresh(self, names: list[str]) -> None:
        self._ready = _asked(self._ask)
        self._metrics.gauge(Name.READY).set(self.is_ready())
        for name in names:
            await self._health.set(name, _SERVING if self._ready else _NOT_SERVING)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs the coroutine function on uvloop, which serves about a fifth more calls a second."""
    uvloop.run(main())


def _asked(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except Exception as error:  # not knowing is not being ready
        _LOG.warning("readiness failed", type=type(error).__name__)
        return False
