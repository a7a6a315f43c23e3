"""The grpcurl examples of the documents, run by grpcurl itself against a running cluster.

They need no file of ours: the servers tell their services by reflection.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local.cluster import Cluster
from deploy.local.places import ROOT
from deploy.local.waiting import eventually
from tests.interop.toolchain import go

VERSION = "v1.9.4"
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)

Run = Callable[[str], str]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    command = [go(), "install", f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"]
    environment = {**os.environ, "GOBIN": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def shell(tools: Path, cluster: Cluster) -> Run:
    def run(text: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "ALLOCATOR": cluster.addresses["allocator"],
            "BINDING": cluster.addresses["binding"],
        }
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def examples(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    return [block for block in FENCED.findall(text) if "grpcurl " in block]


@pytest.mark.timeout(600)  # the first build of grpcurl downloads and compiles it
def test_the_examples_of_the_documents_run(cluster: Cluster, shell: Run) -> None:
    [block] = examples("platforms.md")
    answers = shell(block)
    binding = json.loads(answers[answers.rindex("\n{") :])
    assert re.fullmatch(r"numbers/70012345678\d{4}", binding["number"])
    name = binding["name"].rsplit("/", 1)[1]

    grows, looks, traces = examples("auditors.md")
    [a] = re.findall(r'"number_a": \{"e164": "([^"]+)"\}', block)
    caller, now = f'"{a}"', datetime.now(UTC).isoformat()

    def filled(text: str) -> str:
        address = cluster.addresses["audit"]
        number = f'"{binding["number"].removeprefix("numbers/")}"'
        for word, value in (
            ("HOST:50054", address), ("26351", "1"), ("BINDING", name), ('"700…"', number),
            ('"138…"', caller), ("2026-11-25T14:03:00+08:00", now),
        ):  # fmt: skip
            text = text.replace(word, value)
        return text.replace('"ID"', f'"{name}-1"')

    audit = "axbridge.audit.v1.AuditService"
    body = '{"binding": "BINDING"}'
    query = filled(f"grpcurl -plaintext -d '{body}' HOST:50054 {audit}/QueryEvents")
    eventually(lambda: f"{name}-1" in shell(query), 30, what="the audit index")
    assert "leaf_hash" in shell(filled(looks))
    assert '"first_size": "1"' in shell(filled(grows))
    assert name in shell(filled(traces))
