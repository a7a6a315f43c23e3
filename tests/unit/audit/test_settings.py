"""The names that deployments set."""

from pathlib import Path

import pytest

from services.audit.settings import AuditSettings, SequencerSettings
from services.runtime.settings import load


def test_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LISTEN": "127.0.0.1:1",
        "HEALTH_LISTEN": "127.0.0.1:2",
        "KAFKA_BOOTSTRAP": "k:1",
        "LOG_DIR": "/log",
        "INDEX_PATH": "/index",
        "KEYRING_DIR": "/keys",
    }.items():
        monkeypatch.setenv(f"AUDIT_{name}", value)
    settings = load(AuditSettings)
    assert (settings.log_dir, settings.index_path) == (Path("/log"), Path("/index"))
    assert (settings.keyring_dir, settings.listen) == (Path("/keys"), "127.0.0.1:1")
    sequencer = load(SequencerSettings)
    assert sequencer.origin == "axbridge.invalid/log/local"
    monkeypatch.setenv("AUDIT_ORIGIN", "axbridge.example/log")
    assert load(SequencerSettings).origin == "axbridge.example/log"


def test_the_sequencer_needs_kafka(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AUDIT_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("AUDIT_LOG_DIR", raising=False)
    with pytest.raises(SystemExit):
        load(SequencerSettings)
    assert "AUDIT_KAFKA_BOOTSTRAP is not set" in capsys.readouterr().err
