"""How a gRPC server is set up, and what stands between generated code and a running server.

Refuses to know what is served. Invariant: whatever is registered goes through the guard, health
and reflection included; and both sides of a connection use the keepalive settings of this module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.runtime.guard import Handler
from services.runtime.settings import ServiceSettings

# Keepalive is a contract of both sides: a server answers ENHANCE_YOUR_CALM to pings that come
# faster than it allows, so clients ping every 20 s and servers allow one every 10 s.
CHANNEL_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A neighbour that is back is found within half a second; by default it may take two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass(frozen=True)
class Options:
    """How to serve. `unary_seconds` and `stream_seconds` bound calls that come without deadline."""

    listen: str = "127.0.0.1:0"
    drain_seconds: float = 0.0
    grace_seconds: float = 5.0
    unary_seconds: float = 10.0
    stream_seconds: float = 3600.0
    max_message_bytes: int = 4 * 1024 * 1024
    maximum_concurrent_rpcs: int | None = None  # more are refused with RESOURCE_EXHAUSTED
    max_connection_age_seconds: int | None = None  # spreads clients behind a level-4 balancer
    ready_every_seconds: float = 0.5
    threads: int = 16  # of a ThreadedServer
    streams: int = 64  # likewise, each with a thread of its own; more are refused (OVERLOADED)
    reuse_port: bool = False  # several processes share one port (SO_REUSEPORT)

    @classmethod
    def of(cls, settings: ServiceSettings, **more: Any) -> "Options":
        """What the settings say, and more."""
        return cls(
            listen=settings.listen,
            drain_seconds=settings.drain_seconds,
            grace_seconds=settings.grace_seconds,
            **more,
        )

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The same as grpc's own option names."""
        arguments = [
            ("grpc.so_reuseport", int(self.reuse_port)),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ]
        if self.max_connection_age_seconds is not None:
            arguments += [
                ("grpc.max_connection_age_ms", self.max_connection_age_seconds * 1000),
                ("grpc.max_connection_age_grace_ms", int(self.grace_seconds * 1000)),
            ]
        return arguments


class Registration:
    """Stands in for a grpc server while generated code registers a servicer with it."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Handler]] = {}

    def add_own(self, servicer: Any, *, aio: bool) -> None:
        """Adds health and reflection, after everything else."""
        shown = (*self.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self)
        kind: Any = reflection.ReflectionServicer
        if aio:
            kind = reflection.aio.ReflectionServicer  # type: ignore[attr-defined]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(kind(shown), self)

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers come as registered ones too; those are faster."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        self.services[service] = handlers

    def guarded(self, wrap: Callable[[str, Handler], Handler]) -> dict[str, dict[str, Handler]]:
        """All handlers, each wrapped once under its name `<service>/<rpc>`."""
        return {
            service: {name: wrap(f"{service}/{name}", handler) for name, handler in methods.items()}
            for service, methods in self.services.items()
        }
