"""The daily bundle for the regulator (R18), NDJSON and a signed manifest: writes it, checks it.

    <region>-<platform>-<yyyymmdd>/
        bindings.ndjson  calls.ndjson  messages.ndjson  consents.ndjson  complaints.ndjson
        manifest          a signed note (C2SP signed-note): one line of JSON, signatures

A line is `{"leaf", "event_id", "type", "time", "event"}`, `event` being the JSON form of the
event's clear part. The manifest has `schema` (axbridge-report/1), region, platform, day, the log's
origin, size and root that it was made of, and per file its count, octets, SHA-256 and SM3.

Invariant: a bundle appears under its name only whole and on disk, and is never changed; made again
of the same log and size it has the same octets.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from services.audit.checkpoint import BadNote, NoteSigner, NoteVerifier, open_note
from services.runtime.wholefile import replace_file, sync_folder

SCHEMA: Final = "axbridge-report/1"
MANIFEST: Final = "manifest"
# What the ministry's platform asks for; those that nothing is published of yet are empty.
PARTS: Final = ("bindings", "calls", "messages", "consents", "complaints")


class BadBundle(ValueError):
    """The bundle is not what its manifest says, or not what its key signed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose day it is. `platform`: the 7 digits of its numbers."""

    region: str
    platform: str
    day: str

    @property
    def name(self) -> str:
        return f"{self.region}-{self.platform}-{self.day.replace('-', '')}"


@dataclass(frozen=True, slots=True)
class Source:
    """The state of the log that a bundle is made of."""

    origin: str
    size: int
    root: str  # hexadecimal


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file of the bundle."""

    name: str
    count: int
    octets: int
    sha256: str
    sm3: str


def write(
    folder: Path,
    subject: Subject,
    source: Source,
    rows: Mapping[str, Iterable[Mapping[str, Any]]],
    signer: NoteSigner,
) -> Path:
    """Makes the bundle in `folder`; gives its path. `rows`: of each part, in the order of leaves.

    A bundle of that name that is there stays as it is. After a crash, parts that were complete are
    kept if they are of the same source, and the rest is made.

    Raises:
        BadBundle: the bundle that is there is of another source.
    """
    target = folder / subject.name
    if target.exists():
        made = check(target, signer.verifier)
        if made["source"] != asdict(source):
            raise BadBundle("this day was reported from another state of the log; move it away")
        return target
    part = folder / f"{subject.name}.part"
    plan = json.dumps(asdict(source)).encode()
    if part.exists() and begun(folder, subject) != source:
        shutil.rmtree(part)
    part.mkdir(parents=True, exist_ok=True)
    # Before the first part: parts that are found later are of this source.
    replace_file(folder / f"{subject.name}.source", plan)
    files = []
    for name in PARTS:
        path = part / f"{name}.ndjson"
        if not path.exists():
            # A crash while it is written leaves only `….new`, which is written over.
            _write_lines(path, rows.get(name, ()))
        files.append(_described(path))
    manifest = {
        "schema": SCHEMA,
        **asdict(subject),
        "source": asdict(source),
        "files": [asdict(file) for file in files],
    }
    note = signer.sign(json.dumps(manifest, separators=(",", ":")) + "\n")
    replace_file(part / MANIFEST, note)
    # A crash here: all is complete but the name, and the next run finds the same octets.
    part.rename(target)
    sync_folder(folder)
    (folder / f"{subject.name}.source").unlink()
    return target


def begun(folder: Path, subject: Subject) -> Source | None:
    """What the bundle was made of, or is being made of, if it was ever begun. Not checked."""
    try:
        if (target := folder / subject.name).exists():
            text = (target / MANIFEST).read_text("utf-8").partition("\n")[0]
            return Source(**json.loads(text)["source"])
        return Source(**json.loads((folder / f"{subject.name}.source").read_bytes()))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def check(bundle: Path, verifier: NoteVerifier) -> dict[str, Any]:
    """The manifest, once its signature, every digest and every count are found right.

    Raises:
        BadBundle: they are not.
    """
    try:
        manifest = json.loads(open_note((bundle / MANIFEST).read_bytes(), [verifier]))
        stated = [PartFile(**file) for file in manifest["files"]]
        subject = Subject(manifest["region"], manifest["platform"], manifest["day"])
        if manifest["schema"] != SCHEMA or subject.name != bundle.name:
            raise BadBundle("the manifest is of another schema or bundle")
        Source(**manifest["source"])
    except OSError:
        raise BadBundle("the manifest cannot be read") from None
    except (BadNote, ValueError, LookupError, TypeError) as error:
        raise error if isinstance(error, BadBundle) else BadBundle(f"manifest: {error}") from None
    if [file.name for file in stated] != [f"{name}.ndjson" for name in PARTS]:
        raise BadBundle("the manifest names other files")
    for file in stated:
        path = bundle / file.name
        if not path.is_file() or _described(path) != file:
            raise BadBundle(f"{file.name} is not what the manifest says")
    if {path.name for path in bundle.iterdir()} != {MANIFEST, *(file.name for file in stated)}:
        raise BadBundle("there are other files in the bundle")
    found: dict[str, Any] = manifest
    return found


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync_folder(path.parent)


def _described(path: Path) -> PartFile:
    digests = hashlib.sha256(), hashlib.new("sm3")
    count = octets = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in digests:
                digest.update(chunk)
            octets += len(chunk)
            count += chunk.count(b"\n")
    return PartFile(path.name, count, octets, *(digest.hexdigest() for digest in digests))
