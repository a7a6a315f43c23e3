"""What can go wrong, named by what the caller must do about it. Pure: the standard library only.

    AxbridgeError
    ├── InvalidArgument      correct the request; never retry it as it is
    ├── NotFound             the thing does not exist (any more); do not retry
    ├── AlreadyExists        another thing holds this name; do not retry
    ├── FailedPrecondition   change the state of the system first, then ask again
    ├── PermissionDenied     this caller may not do it; retrying changes nothing
    ├── Unauthenticated      say who you are, then ask again
    ├── ResourceExhausted    something is used up; ask again after `retry_after`
    ├── Aborted              lost a race: read again and retry the whole operation
    ├── Unavailable          send the same request again, later
    ├── DeadlineExceeded     the outcome is unknown: send the same request again
    ├── Unimplemented        nobody answers this here; do not retry
    ├── DataLoss             something stored cannot be read back; call a person
    ├── Internal             a bug of ours; call a person
    └── ConsumerError        raised by a handler of events, answered by the consumer loop
        ├── Malformed        the event can never be applied: park it and go on
        └── Retry            the event can be applied later: back off, its partition pauses

Anything else that leaves an event handler crashes the consumer without committing.

Invariant: `str()` and `repr()` show the reason and the metadata, nothing else, so an error may be
logged anywhere. A person's number must never be put into the metadata; the message is for the
developer who reads a response, and is a constant text without values.
"""

import re
from collections.abc import Mapping
from datetime import timedelta

# The form that google.rpc.ErrorInfo.reason demands (at most 63 characters).
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]")


class AxbridgeError(Exception):
    """A failure with a reason (UPPER_SNAKE) and metadata that are safe to show to anyone."""

    reason: str
    message: str
    retry_after: timedelta | None
    metadata: Mapping[str, str]

    def __init__(
        self,
        reason: str,
        message: str = "",
        /,
        *,
        retry_after: timedelta | None = None,
        **metadata: str,
    ) -> None:
        if _REASON.fullmatch(reason) is None:
            raise ValueError("an error's reason is UPPER_SNAKE, 2 to 63 characters")
        super().__init__(reason, message)  # positional again, so that copy and pickle work
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.metadata = metadata

    def __str__(self) -> str:
        pairs = " ".join(f"{key}={value}" for key, value in sorted(self.metadata.items()))
        return f"{self.reason} {pairs}" if pairs else self.reason

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class InvalidArgument(AxbridgeError):
    """The request is wrong whatever the state of the system: correct it."""


class NotFound(AxbridgeError):
    """The named thing does not exist, or not for this caller."""


class AlreadyExists(AxbridgeError):
    """The name is taken by something else."""


class FailedPrecondition(AxbridgeError):
    """The state of the system forbids it: change that first."""


class PermissionDenied(AxbridgeError):
    """The caller is known and may not do this."""


class Unauthenticated(AxbridgeError):
    """The caller is not known."""


class ResourceExhausted(AxbridgeError):
    """A quota or supply is used up: ask again after `retry_after`."""


class Aborted(AxbridgeError):
    """A race was lost: retry the whole operation from its first read."""


class Unavailable(AxbridgeError):
    """A neighbour or store is away: send the same request again after `retry_after`."""


class DeadlineExceeded(AxbridgeError):
    """Time ran out before an answer came. It may or may not have happened."""


class Unimplemented(AxbridgeError):
    """This service does not do that."""


class DataLoss(AxbridgeError):
    """Something that was stored cannot be read back whole."""


class Internal(AxbridgeError):
    """A bug, or an unknown error of a neighbour."""


class ConsumerError(AxbridgeError):
    """What a handler of events may tell the consumer loop."""


class Malformed(ConsumerError):
    """This event can never be applied: park it with the reason and go on."""


def contradicted() -> Malformed:
    """Why a record is parked that says something else about a version, or under an event's id, than
    what is known (design decision 4): two histories exist, and a person must look."""
    return Malformed("VERSION_CONTRADICTED")


class Retry(ConsumerError):
    """This event cannot be applied yet: pause its partition, back off, try again."""
