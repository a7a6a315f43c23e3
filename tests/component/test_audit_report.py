"""The daily report, made from what a real service answers, checked and delivered by command."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axbridge.binding.v1 import events_pb2 as binding
from axbridge.router.v1 import events_pb2 as router

from services.audit import report
from services.audit.checkpoint import NoteSigner
from tests.audit_events import created, number
from tests.audit_world import World

NOON = int(datetime(2026, 11, 25, 4, tzinfo=UTC).timestamp() * 1000)  # in Shanghai
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_day_is_reported(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert number(1)[4:11] == "0000001"
    consent = binding.ConsentGranted(fact=binding.ConsentFact(tenant="taxi", consent="k"))
    call = router.CallRecorded(carrier="c", call_id="1", number=number(1))
    elsewhere = router.CallRecorded(carrier="c", call_id="2", number="700199999990001")
    world.add("early", created("b0"), NOON - DAY_MS)
    world.add("one", created("b1", world.sealer, order="order-77"), NOON)
    world.add("call", call, NOON + 1)
    world.add("other platform", elsewhere, NOON + 2)
    world.add("consent", consent, NOON + 3)
    world.add("gone", created("b1", kind=binding.BindingReleased, version=2), NOON + 4)
    world.add("late", created("b2"), NOON + DAY_MS)

    def make(out: str, *more: str) -> int:
        return report.main([
            "make", "2026-11-25", "--audit", world.address, "--region", "gd", "--platform",
            "0000001", "--key", str(tmp_path / "key"), "--out", str(tmp_path / out), *more,
        ])  # fmt: skip

    assert make("one") == report.DONE
    bundle = tmp_path / "one/gd-0000001-20261125"
    assert capsys.readouterr().out.strip() == str(bundle)

    def ids(part: str) -> list[str]:
        lines = (bundle / f"{part}.ndjson").read_text("utf-8").splitlines()
        return [json.loads(line)["event_id"] for line in lines]

    assert [ids(part) for part in ("bindings", "calls", "consents")] == [
        ["one", "gone"], ["call"], ["consent"],
    ]  # fmt: skip
    text = (bundle / "bindings.ndjson").read_text("utf-8")
    assert "secrets" not in text
    assert json.loads(text.splitlines()[0])["event"]["fact"]["binding"] == "b1"

    world.add("of that day, but later", created("b3"), NOON + 5)
    assert make("two", "--size", "7") == report.DONE  # the same octets once more
    files = sorted(path.name for path in bundle.iterdir())
    again = tmp_path / "two" / bundle.name
    assert files == sorted(path.name for path in again.iterdir())
    assert all((bundle / name).read_bytes() == (again / name).read_bytes() for name in files)
    assert make("one") == report.DONE
    assert ids("bindings") == ["one", "gone"]

    capsys.readouterr()
    vkey = NoteSigner.parse((tmp_path / "key").read_text().strip()).verifier.vkey
    there = tmp_path / "there"
    assert report.main(["deliver", str(bundle), "--to", str(there)]) == report.DONE
    assert report.main(["check", str(there / bundle.name), "--vkey", vkey]) == report.DONE
    assert "YES: 2 in bindings.ndjson, 1 in calls.ndjson" in capsys.readouterr().out
    (there / bundle.name / "calls.ndjson").write_text("{}\n")
    assert report.main(["check", str(there / bundle.name), "--vkey", vkey]) == report.WRONG
    assert "NO: calls.ndjson" in capsys.readouterr().err
    world.server.stop(None).wait()
    assert make("three") == report.NOT_NOW
