"""What the cell's functions answer, as values and exceptions of ports.py.

Refuses to know who asked. Invariant: a refusal never passes for an answer, and a record that does
not decode is a failure of its own: whoever goes through many can go on with the others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from google.protobuf.message import DecodeError

from services.binding.ports import Answer, Lost
from services.runtime.errors import DataLoss, FailedPrecondition, Malformed

_HASH: Final = 16  # octets of a body hash, in front of the id


def answer(value: bytes) -> Answer:
    """What a request id led to."""
    return Answer(value[:_HASH], value[_HASH:].decode())


@contextmanager
def decoding() -> Iterator[None]:
    """Raises DataLoss for what is no record of ours: octets, texts or numbers that mean nothing."""
    try:
        yield
    except (DecodeError, Malformed, ValueError):
        raise unreadable() from None


def unreadable() -> DataLoss:
    """What a record of the store gets that is not what its key says."""
    return DataLoss("RECORD_UNREADABLE", "a record of the store does not decode")


def applied(reply: list[Any]) -> int:
    """The outbox sequence of a write. Raises Lost."""
    if reply[0] != b"OK":  # STALE or EARLY
        raise Lost
    return int(reply[1])


def refuse(reply: list[Any]) -> None:
    """Raises FailedPrecondition for what stands against a party, whatever the number."""
    if reply[0] == b"PARTY_FULL":
        raise FailedPrecondition("PARTY_FULL", "A holds its 5 numbers of mode AX")
    if reply[0] == b"CONSENT_MISSING":
        raise FailedPrecondition(
            "CONSENT_MISSING", "a party has not consented", party=reply[1].decode()
        )
    if reply[0] == b"PARTY_BLACKLISTED":
        raise FailedPrecondition(
            "PARTY_BLACKLISTED", "a blacklist holds a party or the pair",
            scope=reply[1].decode(), target=reply[2].decode(),
        )  # fmt: skip
