"""Bytes written once must decode for ever, and today's bytes are those that were written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from services.runtime.topics import CATALOGUE
from tests.protos.golden import FOLDER, add, main, stored
from tests.protos.samples import SAMPLES

IN_TOPICS = {name for topic in CATALOGUE for name in topic.messages}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_encodes_to_the_golden_bytes(name: str) -> None:
    assert SAMPLES[name].SerializeToString(deterministic=True) == stored(name)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_golden_bytes_decode_to_the_sample(name: str) -> None:
    assert type(SAMPLES[name]).FromString(stored(name)) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_named_after_its_message(name: str) -> None:
    full = SAMPLES[name].DESCRIPTOR.full_name
    assert f"axbridge.{name}".removeprefix(full)[:1] in {"", "."}


def test_every_golden_file_has_its_sample() -> None:
    assert {path.stem for path in FOLDER.glob("*.hex")} == set(SAMPLES)
    assert all(path.suffix == ".hex" for path in FOLDER.iterdir())


def test_every_message_of_every_topic_has_golden_bytes() -> None:
    assert {sample.DESCRIPTOR.full_name for sample in SAMPLES.values()} >= IN_TOPICS


@pytest.mark.parametrize("message", sorted({s.DESCRIPTOR.full_name for s in SAMPLES.values()}))
def test_the_samples_of_a_message_fill_every_field(message: str) -> None:
    samples = [s for s in SAMPLES.values() if s.DESCRIPTOR.full_name == message]
    filled = {path for sample in samples for path in filled_paths(sample)}
    assert set(all_paths(samples[0].DESCRIPTOR)) - filled == set()


def all_paths(kind: Any, before: str = "") -> Iterator[str]:
    for field in kind.fields:
        path = f"{before}.{field.name}"
        yield path
        if is_ours(field):
            yield from all_paths(field.message_type, path)


def filled_paths(message: Message, before: str = "") -> Iterator[str]:
    for field, value in message.ListFields():
        path = f"{before}.{field.name}"
        yield path
        if is_ours(field):
            for part in value if field.is_repeated else [value]:
                yield from filled_paths(part, path)


def is_ours(field: Any) -> bool:
    kind = field.message_type
    return kind is not None and str(kind.full_name).startswith("axbridge.")


def test_a_new_file_is_written_and_an_existing_one_is_never_changed(tmp_path: Path) -> None:
    name = "binding.v1.RouteKey"
    add(name, tmp_path)
    assert stored(name, tmp_path) == stored(name)
    (tmp_path / f"{name}.hex").write_text("00\n")
    with pytest.raises(FileExistsError):
        add(name, tmp_path)
    assert (tmp_path / f"{name}.hex").read_text() == "00\n"


def test_the_command_refuses_an_existing_one(capsys: pytest.CaptureFixture[str]) -> None:
    before = (FOLDER / "binding.v1.Route.hex").read_bytes()
    assert main(["binding.v1.Route"]) == 1
    assert (FOLDER / "binding.v1.Route.hex").read_bytes() == before
    assert "for ever" in capsys.readouterr().err
