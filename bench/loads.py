"""Loads on binding: single creates by many callers, batches by a few."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from axbridge.binding.v1 import binding_service_pb2 as pb
from axbridge.binding.v1 import binding_service_pb2_grpc

from bench.under_load import POOL, TENANT, Load
from deploy.local.clients import channel_options, create_request
from deploy.local.trips import mobile
from services.runtime.status import reason_of


def single(address: str, seconds: float, callers: int) -> Load:
    """CreateBinding by so many callers, each again as soon as it has its answer."""

    async def one(stub: Any, load: Load, number: int) -> None:
        request = _request(number)
        answer = await stub.CreateBinding(request, timeout=30)
        load.items += 1
        load.last = request.number_a.e164, answer.number.removeprefix("numbers/")

    return asyncio.run(_run(address, seconds, callers, one))


def batches(address: str, seconds: float, callers: int, size: int) -> Load:
    """BatchCreateBindings of `size` items by so many callers."""

    async def one(stub: Any, load: Load, number: int) -> None:
        requests = [_request(number * size + at) for at in range(size)]
        batch = pb.BatchCreateBindingsRequest(parent=f"tenants/{TENANT}", requests=requests)
        results = (await stub.BatchCreateBindings(batch, timeout=60)).results
        for request, result in zip(requests, results, strict=True):
            if result.HasField("binding"):
                load.items += 1
                dialled = result.binding.number.removeprefix("numbers/")
                load.last = request.number_a.e164, dialled
            else:
                load.errors[result.error.message] += 1

    return asyncio.run(_run(address, seconds, callers, one))


def _request(number: int) -> pb.CreateBindingRequest:
    return create_request(TENANT, POOL, mobile(f"a/{number}"), mobile(f"b/{number}"), f"o-{number}")


async def _run(
    address: str,
    seconds: float,
    callers: int,
    one: Callable[[Any, Load, int], Awaitable[None]],
) -> Load:
    load, numbers, begun = Load(), itertools.count(), time.perf_counter()
    async with grpc.aio.insecure_channel(address, channel_options("binding")) as channel:
        stub = binding_service_pb2_grpc.BindingServiceStub(channel)

        async def caller() -> None:
            while time.perf_counter() < begun + seconds:
                number = next(numbers)
                asked = time.perf_counter()
                try:
                    await one(stub, load, number)
                except grpc.aio.AioRpcError as error:
                    load.errors[reason_of(error) or error.code().name] += 1
                    continue
                load.milliseconds.append((time.perf_counter() - asked) * 1000)

        await asyncio.gather(*(caller() for _ in range(callers)))
    load.seconds = time.perf_counter() - begun
    return load
