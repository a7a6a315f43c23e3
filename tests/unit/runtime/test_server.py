"""Both servers, seen by real clients: health, reflection, errors, random bytes, and the drain."""

import asyncio
import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from services.runtime.metrics import Metrics
from services.runtime.server import CHANNEL_OPTIONS, AioServer, Options, ThreadedServer, run
from services.runtime.status import error_from_rpc, reason_of
from tests.unit.runtime.echo import NUMBER, SERVICE, AioEcho, Echo, register

METHODS = {"Unary": (0, 0), "Down": (0, 1), "Up": (1, 0), "Both": (1, 1)}
OPTIONS = Options(ready_every_seconds=0.01, grace_seconds=2.0, threads=4)
Code = grpc.StatusCode


class Switch:
    """A readiness that a test can turn."""

    on = True

    def __call__(self) -> bool:
        return self.on


class Served:
    """A running server of either kind, with a client's channel to it."""

    def __init__(self, port: int, metrics: Metrics, switch: Switch) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[*CHANNEL_OPTIONS])
        self.metrics, self.switch = metrics, switch

    def call(self, method: str, *payloads: bytes, timeout: float = 5.0) -> list[bytes]:
        """All answers of an rpc, as bytes."""
        up, down = METHODS[method]
        kind = f"{'stream' if up else 'unary'}_{'stream' if down else 'unary'}"
        stub: Any = getattr(self.channel, kind)(f"/{SERVICE}/{method}")
        answer = stub(iter(payloads) if up else payloads[0], timeout=timeout)
        return list(answer) if down else [answer]

    def say(self, method: str, *texts: str) -> list[str]:
        payloads = [StringValue(value=text).SerializeToString() for text in texts]
        return [StringValue.FromString(raw).value for raw in self.call(method, *payloads)]

    def health(self, service: str = "") -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        request = health_pb2.HealthCheckRequest(service=service)
        return int(stub.Check(request, timeout=30).status)


@contextlib.contextmanager
def serving_threaded(servicer: Any = None, options: Options = OPTIONS) -> Iterator[Served]:
    metrics, switch = Metrics("sample"), Switch()
    server = ThreadedServer(options, metrics, ready=switch)
    server.add(register, servicer or Echo())
    it = Served(server.start(), metrics, switch)
    try:
        yield it
    finally:
        it.channel.close()
        server.drain()


@contextlib.contextmanager
def serving_aio() -> Iterator[Served]:
    """The asyncio server on uvloop in a thread of its own, with a synchronous client."""
    metrics, switch, ports = Metrics("sample"), Switch(), queue.SimpleQueue[int]()
    loops, stop = queue.SimpleQueue[asyncio.AbstractEventLoop](), asyncio.Event()

    async def main() -> None:
        server = AioServer(OPTIONS, metrics, ready=switch)
        server.add(register, AioEcho(asyncio.Event().wait))
        loops.put(asyncio.get_running_loop())
        ports.put(await server.start())
        await stop.wait()
        await server.drain()

    thread = threading.Thread(target=run, args=(main,))
    thread.start()
    it = Served(ports.get(timeout=10), metrics, switch)
    try:
        yield it
    finally:
        it.channel.close()
        loops.get().call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module", params=["threaded", "aio"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving_threaded() if request.param == "threaded" else serving_aio() as it:
        yield it


def code_of(caught: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    return cast(grpc.StatusCode, cast(Any, caught.value).code())


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.005)


def test_all_four_shapes_answer(served: Served) -> None:
    assert served.say("Unary", "a") == ["a"]
    assert served.say("Down", "a") == ["first", "a"]
    assert served.say("Up", "a", "b") == ["ab"]
    assert served.say("Both", "a", "b") == ["a", "b"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("exhausted", Code.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED"),
        ("crash", Code.INTERNAL, "INTERNAL"),
        ("wrong", Code.INTERNAL, "INTERNAL"),
        ("missing", Code.UNIMPLEMENTED, "UNIMPLEMENTED"),
    ],
)
def test_errors_arrive_with_code_and_reason_and_without_texts(
    served: Served, method: str, text: str, code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.say(method, text)
    error: Any = caught.value
    assert (error.code(), reason_of(error)) == (code, reason)
    shown = f"{error.details()}{error.trailing_metadata()}"
    assert NUMBER not in shown
    assert "Traceback" not in shown
    assert "dial" not in shown
    assert bool(error_from_rpc(error).metadata.get("incident")) == (code is Code.INTERNAL)


def test_a_handler_that_aborts_by_hand_is_left_alone(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.say("Unary", "abort")
    assert (code_of(caught), str(cast(Any, caught.value).details())) == (Code.NOT_FOUND, "by hand")


@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=60), method=st.sampled_from(sorted(METHODS)))
def test_random_bytes_get_an_answer_or_a_clean_error(
    served: Served, raw: bytes, method: str
) -> None:
    try:
        served.call(method, raw)
    except grpc.RpcError as caught:
        error: Any = caught
        assert (error.code(), reason_of(error)) == (Code.INVALID_ARGUMENT, "REQUEST_MALFORMED")


@pytest.mark.parametrize(
    "method", ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", "no.Such/Method"]
)
def test_random_bytes_to_everything_else(served: Served, method: str) -> None:
    channel: Any = served.channel
    stub = channel.unary_stream(f"/{method}")
    with pytest.raises(grpc.RpcError) as caught:
        list(stub(b"\xff\xff\xff", timeout=30))
    error: Any = caught.value
    assert error.code() in (Code.INVALID_ARGUMENT, Code.INTERNAL, Code.UNKNOWN, Code.UNIMPLEMENTED)
    assert "Traceback" not in error.details()


def test_health_follows_readiness(served: Served) -> None:
    serving, not_serving = 1, 2
    eventually(lambda: served.health() == serving)
    assert served.health(SERVICE) == serving
    served.switch.on = False
    eventually(lambda: served.health(SERVICE) == not_serving)
    assert served.health() == not_serving
    assert "sample_ready 0.0" in generate_latest(served.metrics.registry).decode()
    served.switch.on = True
    eventually(lambda: served.health() == serving)
    with pytest.raises(grpc.RpcError) as caught:
        served.health("no.Such")
    assert code_of(caught) is Code.NOT_FOUND


def test_reflection_lists_what_is_served(served: Served) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([request]), timeout=30)
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


def test_too_large_messages_are_refused(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.call("Unary", b"\x0a" + b"x" * (4 * 1024 * 1024))
    assert code_of(caught) is Code.RESOURCE_EXHAUSTED


def test_calls_and_failures_are_counted(served: Served) -> None:
    served.say("Unary", "a")
    with pytest.raises(grpc.RpcError):
        served.say("Unary", "exhausted")
    text = generate_latest(served.metrics.registry).decode()
    assert f'sample_rpc_seconds_count{{method="{SERVICE}/Unary"}}' in text
    assert f'code="RESOURCE_EXHAUSTED",method="{SERVICE}/Unary"}}' in text


def test_more_calls_than_allowed_are_refused() -> None:
    echo = Echo()
    options = Options(threads=2, maximum_concurrent_rpcs=1)
    with serving_threaded(echo, options) as served:
        held = threading.Thread(target=served.say, args=("Unary", "hold"))
        held.start()
        assert echo.held.wait(60)
        with pytest.raises(grpc.RpcError) as caught:
            served.say("Unary", "a")
        echo.release.set()
        held.join()
    assert code_of(caught) is Code.RESOURCE_EXHAUSTED


def test_streams_have_threads_of_their_own_and_no_more_than_allowed() -> None:
    with serving_threaded(options=Options(threads=1, streams=1)) as served:
        asked: queue.SimpleQueue[StringValue | None] = queue.SimpleQueue()
        both: Any = served.channel.stream_stream(
            f"/{SERVICE}/Both", StringValue.SerializeToString, StringValue.FromString
        )
        answers = both(iter(asked.get, None), timeout=60)
        asked.put(StringValue(value="first"))
        assert next(answers).value == "first"
        assert served.say("Unary", "a") == ["a"]
        with pytest.raises(grpc.RpcError) as caught:
            served.say("Both", "a")
        assert reason_of(caught.value) == "OVERLOADED"
        asked.put(None)
        assert list(answers) == []
        assert served.say("Both", "a") == ["a"]


def test_two_servers_share_a_port_only_if_asked_to() -> None:
    metrics = Metrics("sample")
    first = ThreadedServer(Options(reuse_port=True), metrics)
    port = first.start()
    second = ThreadedServer(Options(f"127.0.0.1:{port}", reuse_port=True), metrics)
    assert second.start() == port
    third = ThreadedServer(Options(f"127.0.0.1:{port}"), metrics)
    with pytest.raises(RuntimeError, match="bind"):
        third.start()
    first.drain()
    second.drain()


def test_sigterm_drains_a_threaded_server_in_order() -> None:
    echo, steps = Echo(), list[str]()
    options = Options(drain_seconds=2.0, grace_seconds=30.0, ready_every_seconds=0.01)
    server = ThreadedServer(options, Metrics("sample"))
    server.add(register, echo)
    served = Served(server.start(), Metrics("sample"), Switch())
    answers = list[list[str]]()

    def broken() -> None:
        steps.append("consumer")
        raise OSError(NUMBER)

    def client() -> None:
        waiting = threading.Thread(target=lambda: answers.append(served.say("Unary", "hold")))
        waiting.start()
        assert echo.held.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: served.health() == 2)  # NOT_SERVING, and yet it answers
        answers.append(served.say("Unary", "still here"))
        assert not server.is_ready()
        assert steps == []
        echo.release.set()
        waiting.join()

    server.on_stop("consumer", broken)
    server.on_stop("producer", lambda: steps.append("producer"))
    before = signal.getsignal(signal.SIGTERM)

    def told() -> None:
        try:
            client()
        finally:  # a client that failed must not leave the server waiting
            server.request_stop()

    thread = threading.Thread(target=told)
    thread.start()
    with pytest.raises(OSError, match=NUMBER):
        server.serve()
    thread.join()
    served.channel.close()
    assert sorted(answers) == [["hold"], ["still here"]]
    assert steps == ["consumer", "producer"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_failure_elsewhere_stops_a_threaded_server_and_is_raised() -> None:
    server = ThreadedServer(OPTIONS, Metrics("sample"))
    server.start()
    server.request_stop(RuntimeError("the consumer died"))
    with pytest.raises(RuntimeError, match="died"):
        server.serve()


async def test_sigterm_drains_an_aio_server_in_order() -> None:
    release, steps = asyncio.Event(), list[str]()
    options = Options(drain_seconds=2.0, grace_seconds=30.0, ready_every_seconds=0.01)
    server = AioServer(options, Metrics("sample"))
    server.add(register, AioEcho(release.wait))

    async def flush() -> None:
        steps.append("producer")

    server.on_stop("consumer", lambda: steps.append("consumer"))
    server.on_stop("producer", flush)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        raw: Any = channel
        unary = raw.unary_unary(f"/{SERVICE}/Unary")
        check = health_pb2_grpc.HealthStub(channel).Check
        hold = unary(StringValue(value="hold").SerializeToString(), timeout=30)
        await unary(b"", timeout=30)
        serving = asyncio.create_task(server.serve())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        while (await check(health_pb2.HealthCheckRequest(), timeout=30)).status != 2:
            await asyncio.sleep(0.005)
        assert await unary(b"", timeout=30) == b""
        assert (server.is_ready(), steps) == (False, [])
        release.set()
        assert StringValue.FromString(await hold).value == "hold"
        await serving
    assert steps == ["consumer", "producer"]


async def test_a_failure_elsewhere_stops_an_aio_server_and_is_raised() -> None:
    server = AioServer(OPTIONS, Metrics("sample"))
    await server.start()
    await asyncio.to_thread(server.request_stop, RuntimeError("the consumer died"))
    with pytest.raises(RuntimeError, match="died"):
        await server.serve()
