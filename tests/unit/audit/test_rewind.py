"""Without anything stored Kafka is not asked; with it, tests/component/test_audit.py."""

import threading

from services.audit.rewind import gone_back

NOBODY = "127.0.0.1:1"


def test_a_new_log_asks_nobody() -> None:
    assert gone_back(NOBODY, ["t"], {}, threading.Event()) == set()
    assert gone_back(NOBODY, ["t"], {("another", 0): 5}, threading.Event()) == set()


def test_waiting_for_kafka_ends_with_stop() -> None:
    stop = threading.Event()
    stop.set()
    assert gone_back(NOBODY, ["t"], {("t", 0): 5}, stop) == set()
