"""docker-compose.yml, checked without a client: every process gets the settings that it reads."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.jars import KAFKA_VERSION
from deploy.topics import parser
from services.runtime.settings import load
from tests.unit.deploy.deployed import SETTINGS, health_name, problems

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
PROCESSES = {
    "allocator": "services.allocator",
    "binding": "services.binding",
    "router": "services.router",
    "router-records": "services.router.records",
    "router-push": "services.router.push",
    "audit": "services.audit",
    "audit-sequencer": "services.audit.sequencer",
    "audit-tiles": "services.audit.tileserver",
}
JOBS = ("topics", "keys")
BROKERS = ("kafka", "valkey")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_picture_is_complete() -> None:
    assert set(SERVICES) == {*PROCESSES, *JOBS, *BROKERS}
    assert set(PROCESSES.values()) == set(SETTINGS)


@pytest.mark.parametrize("name", PROCESSES)
def test_every_name_is_a_setting_and_every_required_setting_is_given(name: str) -> None:
    assert problems(PROCESSES[name], set(SERVICES[name]["environment"])) == []


@pytest.mark.parametrize("name", PROCESSES)
def test_it_starts_the_module_it_is_named_after(name: str) -> None:
    service = SERVICES[name]
    built = f"services.{service['build']['args']['SERVICE']}"
    started = service.get("entrypoint", ["python", "-m", built])
    assert started == ["python", "-m", PROCESSES[name]]
    assert PROCESSES[name].startswith(built)
    assert service["image"].startswith(f"axbridge/{built.removeprefix('services.')}:")


def test_values_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in PROCESSES.items():
        with monkeypatch.context() as environment:
            for key, value in SERVICES[name]["environment"].items():
                environment.setenv(key, value)
            settings = load(SETTINGS[module])  # exits on a value of the wrong form
        assert SERVICES[name]["environment"][health_name(type(settings))] == "0.0.0.0:8080"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", SERVICES[name]["image"])


def test_kafka_is_the_version_that_the_tests_run_on() -> None:
    assert SERVICES["kafka"]["image"].startswith(f"apache/kafka:{KAFKA_VERSION}")


@pytest.mark.parametrize("name", [*PROCESSES, *BROKERS])
def test_health_is_asked(name: str) -> None:
    asked = SERVICES[name]["healthcheck"]["test"]
    assert asked[0] in {"CMD", "CMD-SHELL"}
    if name in PROCESSES:
        assert "127.0.0.1:8080/readyz" in asked[-1]
        compile(asked[-1], "healthcheck", "exec")


@pytest.mark.parametrize("name", [*PROCESSES, *JOBS])
def test_ours_run_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_needs_exists(name: str) -> None:
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        assert volume.split(":")[0] in COMPOSE["volumes"]
    for other, how in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if other in JOBS else "service_healthy"
        assert how == {"condition": expected}
        assert other in SERVICES


def test_each_volume_is_used_and_the_private_evidence_key_stays_with_its_job() -> None:
    users: dict[str, set[str]] = {volume: set() for volume in COMPOSE["volumes"]}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            users[volume.split(":")[0]].add(name)
    assert all(users.values())
    assert users["evidence"] == {"keys"}
    assert "audit-sequencer" not in users["keyring"]


def test_the_folders_of_volumes_belong_to_our_user_in_the_image() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    for name in (*PROCESSES, *JOBS):
        for volume in SERVICES[name].get("volumes", []):
            assert volume.split(":")[1] in dockerfile


def test_the_topics_job_speaks_the_language_of_its_program() -> None:
    job = SERVICES["topics"]
    assert job["entrypoint"] == ["python", "-m", "deploy.topics"]
    assert parser().parse_args(job["command"]).bootstrap == "kafka:9092"
