"""The settings choose the index; exactly one."""

from pathlib import Path

import pytest

from services.audit.index import SqliteIndex
from services.audit.indexes import open_index
from services.audit.settings import AuditSettings
from services.runtime.settings import load


def test_a_path_is_sqlite(tmp_path: Path) -> None:
    index = open_index(tmp_path / "i", None)
    assert isinstance(index, SqliteIndex)
    index.close()
    with pytest.raises(ValueError, match="a path or an address"):
        open_index(None, None)


@pytest.mark.parametrize(
    ("given", "good"),
    [
        ({}, False),
        ({"PATH": "/i"}, True),
        ({"URL": "u"}, True),
        ({"PATH": "/i", "URL": "secret"}, False),
    ],
)
def test_exactly_one_is_set(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, str],
    good: bool,
) -> None:
    monkeypatch.setenv("AUDIT_LOG_DIR", "/log")
    monkeypatch.setenv("AUDIT_KEYRING_DIR", "/ring")
    for name, value in given.items():
        monkeypatch.setenv(f"AUDIT_INDEX_{name}", value)
    if good:
        load(AuditSettings)
        return
    with pytest.raises(SystemExit):
        load(AuditSettings)
    shown = capsys.readouterr().err
    assert "exactly one of AUDIT_INDEX_PATH and AUDIT_INDEX_URL" in shown
    assert "secret" not in shown
