"""Settings are complete and valid or the process ends, having named every problem and no value."""

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import RedisSettings, ServiceSettings, load, split_address


class Sample(RedisSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    workers: int = 1
    cells: tuple[str, ...] = ("c0",)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("SAMPLE_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
    monkeypatch.setenv("SAMPLE_REDIS_URL", "redis://:hush@127.0.0.1:6379/0")
    return monkeypatch


def test_reads_prefixed_names_and_keeps_defaults(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SAMPLE_LISTEN", "[::1]:7001")
    environment.setenv("SAMPLE_DRAIN_SECONDS", "2.5")
    environment.setenv("SAMPLE_CELLS", '["c0", "c1"]')
    settings = load(Sample)
    assert isinstance(settings, ServiceSettings)
    assert settings.listen == "[::1]:7001"
    assert settings.health_listen == "127.0.0.1:0"
    assert settings.drain_seconds == 2.5
    assert settings.cells == ("c0", "c1")
    assert settings.redis_url == SecretStr("redis://:hush@127.0.0.1:6379/0")


def test_are_frozen_and_hide_secrets(environment: pytest.MonkeyPatch) -> None:
    settings = load(Sample)
    with pytest.raises(ValidationError):
        settings.log_level = "DEBUG"
    assert "hush" not in f"{settings!r}{settings!s}"


def test_lists_every_problem_without_values(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("SAMPLE_KAFKA_BOOTSTRAP")
    environment.setenv("SAMPLE_REDIS_URL", "")  # empty counts as missing
    environment.setenv("SAMPLE_LISTEN", "hush-13812345678")
    environment.setenv("SAMPLE_LOG_LEVEL", "hush-loud")
    environment.setenv("SAMPLE_WORKERS", "hush-many")
    with pytest.raises(SystemExit) as caught:
        load(Sample)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.count("settings: ") == 5
    assert "SAMPLE_KAFKA_BOOTSTRAP is not set" in told
    assert "SAMPLE_REDIS_URL is not set" in told
    for name in ("SAMPLE_LISTEN", "SAMPLE_LOG_LEVEL", "SAMPLE_WORKERS"):
        assert f"{name} is not valid" in told
    assert "hush" not in told


def test_a_structured_value_that_is_no_json_is_a_problem_too(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("SAMPLE_CELLS", "hush")
    with pytest.raises(SystemExit):
        load(Sample)
    told = capsys.readouterr().err
    assert "cells" in told
    assert "hush" not in told


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::]:65535", ("::", 65535)), ("a.b:80", ("a.b", 80))],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", ":1", "host", "host:", "host:x", "h:65536", "::1:80", "h:１"]
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|brackets"):
        split_address(address)
