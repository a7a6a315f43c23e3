"""How a record is read. Compaction itself is a contract test (`test_brokers.py`)."""

from typing import cast

from confluent_kafka import Message

from deploy.local.compaction import Record, _record


class MemoryMessage:
    """A message as the client hands it out, tombstone included."""

    def __init__(self, value: bytes | None, headers: object) -> None:
        self._value, self._headers = value, headers

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> object:
        return self._headers


def test_headers_keep_their_order_and_repetitions() -> None:
    message = MemoryMessage(b"value", [("a", b"1"), ("b", "two"), ("a", None)])
    expected = (("a", b"1"), ("b", b"two"), ("a", None))
    assert _record(cast(Message, message)) == Record(3, 7, b"key", b"value", expected)


def test_a_tombstone_without_headers() -> None:
    assert _record(cast(Message, MemoryMessage(None, None))) == Record(3, 7, b"key", None, ())
