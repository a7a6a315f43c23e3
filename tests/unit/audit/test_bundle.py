"""A bundle: the same octets whenever it is made, whole or not there, and every change is found."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.bundle import MANIFEST, PARTS, BadBundle, Source, Subject, begun, check, write
from services.audit.checkpoint import NoteSigner

SIGNER = NoteSigner.generate("axbridge.example/report")
SUBJECT = Subject("gd", "0000001", "2026-11-25")
SOURCE = Source("axbridge.example/log", 9, "ab" * 32)
ROWS: dict[str, Iterable[Mapping[str, Any]]] = {
    "bindings": [{"leaf": 1}, {"leaf": 2, "说": "中"}],
    "calls": [{"leaf": 3}],
}


def octets(bundle: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def test_what_is_in_it(tmp_path: Path) -> None:
    bundle = write(tmp_path / "out", SUBJECT, SOURCE, ROWS, SIGNER)
    assert bundle.name == "gd-0000001-20261125"
    assert set(octets(bundle)) == {MANIFEST, *(f"{part}.ndjson" for part in PARTS)}
    manifest = check(bundle, SIGNER.verifier)
    assert (manifest["schema"], manifest["source"]["size"]) == ("axbridge-report/1", 9)
    assert [file["count"] for file in manifest["files"]] == [2, 1, 0, 0, 0]
    assert manifest["files"][3]["sm3"].startswith("1ab21d8355cfa17f8e61194831e81a8f")  # of nothing
    lines = (bundle / "bindings.ndjson").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ROWS["bindings"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [bundle.name]


def test_made_again_it_has_the_same_octets(tmp_path: Path) -> None:
    one = write(tmp_path / "one", SUBJECT, SOURCE, ROWS, SIGNER)
    assert begun(tmp_path / "one", SUBJECT) == SOURCE
    two = write(tmp_path / "two", SUBJECT, SOURCE, ROWS, SIGNER)
    assert octets(one) == octets(two)
    assert write(tmp_path / "one", SUBJECT, SOURCE, {}, SIGNER) == one  # it is there already
    with pytest.raises(BadBundle, match="another state"):
        write(tmp_path / "one", SUBJECT, Source("axbridge.example/log", 10, ""), ROWS, SIGNER)


def test_what_was_begun_goes_on(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def broken(*rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from rows
        raise Killed

    whole = octets(write(tmp_path / "whole", SUBJECT, SOURCE, ROWS, SIGNER))
    out = tmp_path / "out"
    assert begun(out, SUBJECT) is None
    with pytest.raises(Killed):
        write(out, SUBJECT, SOURCE, {**ROWS, "calls": broken({"leaf": 7})}, SIGNER)
    assert begun(out, SUBJECT) == SOURCE
    assert not (out / SUBJECT.name).exists()
    # `bindings` was complete and is not asked for again.
    rest = {**ROWS, "bindings": broken()}
    assert octets(write(out, SUBJECT, SOURCE, rest, SIGNER)) == whole
    part = out / f"{SUBJECT.name}.part"
    part.mkdir()
    (part / "bindings.ndjson").write_text("older\n")
    (out / SUBJECT.name).rename(tmp_path / "away")
    with pytest.raises(Killed):  # of another state of the log nothing is kept
        write(out, SUBJECT, SOURCE, {**ROWS, "bindings": broken()}, SIGNER)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundle"), SUBJECT, SOURCE, ROWS, SIGNER)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_flipped_bit_is_found(bundle: Path, data: st.DataObject) -> None:
    names = sorted(name for name, content in octets(bundle).items() if content)
    path = bundle / data.draw(st.sampled_from(names))
    content = path.read_bytes()
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    try:
        with pytest.raises(BadBundle):
            check(bundle, SIGNER.verifier)
    finally:
        path.write_bytes(content)


def test_what_else_is_wrong(bundle: Path) -> None:
    other = NoteSigner.generate(SIGNER.name)
    with pytest.raises(BadBundle, match="no known key"):
        check(bundle, other.verifier)
    with pytest.raises(BadBundle, match="cannot be read"):
        check(bundle.parent, SIGNER.verifier)
    (bundle / "more").touch()
    with pytest.raises(BadBundle, match="other files"):
        check(bundle, SIGNER.verifier)
    (bundle / "more").unlink()
    note = (bundle / MANIFEST).read_bytes()
    for text in (
        "{}\n",
        "[]\n",
        '{"schema": 1}\n',
        json.dumps({"schema": "axbridge-report/2"}) + "\n",
    ):
        (bundle / MANIFEST).write_bytes(SIGNER.sign(text))
        with pytest.raises(BadBundle):
            check(bundle, SIGNER.verifier)
    (bundle / MANIFEST).write_bytes(note)
    check(bundle, SIGNER.verifier)
