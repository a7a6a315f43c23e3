"""Settings of a process, read from the environment once and frozen.

A service subclasses `ServiceSettings` or `RedisSettings`, sets its prefix and adds its own fields:

    class MySettings(RedisSettings):
        model_config = SettingsConfigDict(env_prefix="MINE_")

then `redis_url` is read from `MINE_REDIS_URL`. Refuses files and command lines. Do not name a
field `port`, `host` or `service_*`: Kubernetes sets `<SERVICE>_PORT` and the like by itself.

Invariant: no value is ever printed, for any of them may be a secret.
"""

import os
import sys
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

_Settings = TypeVar("_Settings", bound=BaseSettings)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises ValueError without repeating the text."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 host stands in brackets")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise ValueError("must be host:port with a port of 0 to 65535")
    return host, int(port)


def _checked_address(text: str) -> str:
    split_address(text)
    return text


Address = Annotated[str, AfterValidator(_checked_address)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class ServiceSettings(BaseSettings):
    """What every service needs to know."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="forbid")

    listen: Address = "127.0.0.1:0"  # gRPC; port 0 lets the system choose
    health_listen: Address = "127.0.0.1:0"  # plain HTTP: metrics and health
    kafka_bootstrap: str = Field(min_length=1)  # host:port, several with commas
    log_level: LogLevel = "INFO"
    # How long a draining server keeps accepting while balancers notice that it is NOT_SERVING.
    # 0 locally; behind Kubernetes probes: period x failure threshold, about 10.
    drain_seconds: float = Field(default=0.0, ge=0, le=300)
    # How long calls in flight may take to finish after that.
    grace_seconds: float = Field(default=5.0, ge=0, le=300)


class RedisSettings(ServiceSettings):
    """For a service that keeps its state in Redis or Valkey."""

    # redis:// or rediss:// (TLS); redis+cluster:// or rediss+cluster:// with nodes of a cluster,
    # parted by commas. Secret because it may carry a password.
    redis_url: SecretStr


def load(settings: type[_Settings]) -> _Settings:
    """The settings from the environment; on any problem prints all of them and exits with 2."""
    try:
        return settings()
    except ValidationError as error:
        problems = [_problem(settings, detail) for detail in error.errors(include_url=False)]
    except SettingsError as error:  # a structured field whose text is no JSON; names no value
        problems = [str(error)]
    for problem in problems:
        print(f"settings: {problem}", file=sys.stderr)
    raise SystemExit(2)


def _problem(settings: type[BaseSettings], detail: Any) -> str:
    path = [str(step) for step in detail["loc"]]
    name = (settings.model_config.get("env_prefix", "") + "__".join(path)).upper()
    if detail["type"] == "missing":
        return f"{name} is not set"
    text: str = detail["msg"]
    value = os.environ.get(name, "")
    if value and value in text:  # a validator's message that quotes what it was given
        text = str(detail["type"])
    return f"{name} is not valid: {text}"
