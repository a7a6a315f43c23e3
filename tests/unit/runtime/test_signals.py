import signal
import threading
from collections.abc import Iterator

import pytest

from deploy.local.waiting import eventually
from services.runtime.signals import stop_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    stop = stop_on_signals()
    assert not stop.is_set()
    signal.raise_signal(number)
    assert stop.wait(10)


def test_a_signal_while_the_event_is_held_stops_all_the_same() -> None:
    """As when it arrives inside `Event.wait` or `set` of the main thread."""
    stop = stop_on_signals()
    with stop._cond:  # type: ignore[attr-defined]
        raised = threading.Event()
        signal.raise_signal(signal.SIGTERM)  # would never return
        raised.set()
    eventually(stop.is_set, 10)
    assert raised.is_set()
