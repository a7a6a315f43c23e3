"""The process around the loop; what it does to a log is in tests/component/test_audit.py."""

import threading
from pathlib import Path

import pytest

from services.audit.checkpoint import BadKey
from services.audit.sequencer import open_log

ORIGIN = "axbridge.example/log"


def test_a_held_log_is_waited_for(tmp_path: Path) -> None:
    stop = threading.Event()
    first = open_log(tmp_path, ORIGIN, stop)
    assert first is not None
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(open_log(tmp_path, ORIGIN, stop)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    first.close()
    waiting.join(10)
    (second,) = found
    assert second is not None
    second.close()  # type: ignore[attr-defined]


def test_waiting_ends_with_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    first = open_log(tmp_path, ORIGIN, stop)
    assert first is not None
    threading.Timer(0.2, stop.set).start()
    assert open_log(tmp_path, ORIGIN, stop) is None
    first.close()


def test_another_origin_is_no_reason_to_wait(tmp_path: Path) -> None:
    stop = threading.Event()
    first = open_log(tmp_path, ORIGIN, stop)
    assert first is not None
    first.close()
    with pytest.raises(BadKey):
        open_log(tmp_path, "axbridge.example/other", stop)
