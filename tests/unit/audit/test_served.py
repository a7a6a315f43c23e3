"""Readers see the folder's checkpoint if its key signed it."""

from pathlib import Path

import pytest

from services.audit.checkpoint import BadNote
from services.audit.cosignature import WitnessSigner
from services.audit.entry import event_id_of
from services.audit.logfolder import Event, LogFolder
from services.audit.served import ServedFolder
from services.runtime.errors import Unavailable
from tests.unit.audit.test_handlers import events


def test_the_witnessed_checkpoint_stands_beside(tmp_path: Path) -> None:
    folder = LogFolder.open(tmp_path, "axbridge.example/log", lambda entry: entry)
    folder.append([Event(b"a", b"a")], b"")
    served = ServedFolder(tmp_path / "log")
    assert served.witnessed() is None
    line = WitnessSigner.generate("w").cosign(folder.log.checkpoint.text(), 1)
    (tmp_path / "log/checkpoint.witnessed").write_bytes(folder.log.note + line.encode())
    folder.append([Event(b"b", b"b")], b"")
    folder.close()
    found = served.witnessed()
    assert found is not None
    assert (found.tree.size, served.published().tree.size) == (1, 2)
    assert found.note.endswith(line.encode())


def test_it_follows_the_log(tmp_path: Path) -> None:
    served = ServedFolder(tmp_path / "log")
    with pytest.raises(Unavailable) as caught:
        served.published()
    assert caught.value.reason == "LOG_EMPTY"
    folder = LogFolder.open(tmp_path, "axbridge.example/log", event_id_of)
    assert served.published().tree.size == 0
    folder.append(events(3), b"")
    folder.close()
    published = served.published()
    assert published.tree.entry(2) == events(3)[2].entry
    assert published.vkey == (tmp_path / "log/vkey").read_text().strip()
    assert served.published() is published


def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        LogFolder.open(tmp_path / name, "axbridge.example/log", event_id_of).close()
    (tmp_path / "one/log/vkey").write_bytes((tmp_path / "two/log/vkey").read_bytes())
    with pytest.raises(BadNote):
        ServedFolder(tmp_path / "one/log").published()
