"""The command line: what it understands, and how it ends."""

import os
import signal
from pathlib import Path

import pytest

from deploy.local import __main__ as command_line
from deploy.local.__main__ import main, parser, until_interrupted
from deploy.local.process import ChildDied


def test_ports_and_data_folder_are_free_to_choose() -> None:
    given = ["brokers", "--data", "there", "--kafka-port", "21000", "--valkey-port", "21001"]
    args = parser().parse_args(given)
    assert (args.data, args.kafka_port, args.valkey_port) == (Path("there"), 21_000, 21_001)
    assert args.run is command_line.brokers
    free = parser().parse_args(["brokers"])
    assert free.kafka_port is None


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_context_and_leaves_the_handlers_as_they_were(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    cleaned = False
    with until_interrupted():
        try:
            os.kill(os.getpid(), number)
            raise AssertionError("not interrupted")
        finally:
            os.kill(os.getpid(), number)  # impatient: must not disturb the cleaning up
            cleaned = True
    assert cleaned
    assert signal.getsignal(number) is before


def test_a_dead_child_is_told_and_the_status_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dies(_args: object) -> int:
        raise ChildDied("kafka exited 1; the end of its log")

    monkeypatch.setattr(command_line, "brokers", dies)
    assert main(["brokers"]) == 1
    assert "kafka exited 1" in capsys.readouterr().err
