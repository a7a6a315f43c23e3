"""Options become grpc's own arguments; registration wraps everything, health and reflection too."""

import pytest
from grpc_health.v1 import health

from services.runtime.guard import Handler
from services.runtime.registration import CHANNEL_OPTIONS, Options, Registration
from services.runtime.settings import ServiceSettings
from tests.unit.runtime.echo import SERVICE, Echo, register


def test_options_take_what_the_settings_say() -> None:
    settings = ServiceSettings(
        listen="127.0.0.1:7", kafka_bootstrap="k:1", drain_seconds=3, grace_seconds=4
    )
    options = Options.of(settings, threads=2)
    assert options == Options("127.0.0.1:7", drain_seconds=3, grace_seconds=4, threads=2)


def test_clients_ping_more_slowly_than_servers_allow() -> None:
    server, client = dict(Options().channel_arguments()), dict(CHANNEL_OPTIONS)
    allowed = server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert client["grpc.keepalive_time_ms"] > allowed


@pytest.mark.parametrize(("shared", "flag"), [(True, 1), (False, 0)])
def test_a_port_is_shared_only_if_asked_to(shared: bool, flag: int) -> None:
    assert ("grpc.so_reuseport", flag) in Options(reuse_port=shared).channel_arguments()


def test_connections_age_only_if_asked_to() -> None:
    assert "grpc.max_connection_age_ms" not in dict(Options().channel_arguments())
    aged = dict(Options(max_connection_age_seconds=60, grace_seconds=2).channel_arguments())
    assert aged["grpc.max_connection_age_ms"] == 60_000
    assert aged["grpc.max_connection_age_grace_ms"] == 2_000


def test_every_handler_is_wrapped_under_its_full_name() -> None:
    registration, names = Registration(), list[str]()
    register(Echo(), registration)
    registration.add_own(health.HealthServicer(), aio=False)

    def wrap(name: str, handler: Handler) -> Handler:
        names.append(name)
        return handler

    registration.guarded(wrap)
    assert f"{SERVICE}/Unary" in names
    assert "grpc.health.v1.Health/Check" in names
    assert "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" in names
