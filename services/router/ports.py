"""What the handlers need of the world. Pure; each docstring is a contract that a suite checks."""

from collections.abc import Container, Sequence
from typing import NamedTuple, Protocol

from services.router.directory import Platform
from services.router.domain import Decision, Entry, LastCaller, Progress
from services.router.texts import Text


class Found(NamedTuple):
    """What the view knows: the tenants of the number's block, the caller's tag and entry."""

    tenants: Sequence[str]
    tenant: str  # the entry's, or the only one of the block, or empty
    tag: bytes
    entry: Entry | None
    extensions: bool = False  # without an entry: the number asks for an extension

    def led_to(self, entry: Entry) -> "Found":
        """The same caller, with an entry that is not its own."""
        return self._replace(tenant=entry.tenant, entry=entry)


class KeyUnavailable(Exception):
    """The callee's route copy does not open here: key missing or destroyed, or box not genuine."""


class Routes(Protocol):
    """The local view of all live routes."""

    def find(self, number: str, caller: str, extension: str = "") -> Found:
        """What one snapshot says about the caller (E.164, or empty) on the number, or about the
        extension that was dialled behind it. Never waits for the writer, and never fails
        because of it: without a view there are no tenants."""

    @property
    def denying(self) -> Container[str]:
        """Tenants that have entries of blacklists, as of `fresh_ms`: `denied` is asked for no
        other. Replaced as a whole, so read it anew each time."""

    def denied(self, number: str, tenant: str, tag: bytes, callee: str, now_ms: int) -> bool:
        """Whether an entry holds at that time for the caller's tag, or for it and the callee
        (E.164), in the tenant or in the pool of the number. Never waits either."""

    def fresh_ms(self) -> int:
        """When (ms since 1970) the view was last known to hold all routes; 0: never."""


class Platforms(Protocol):
    """All platforms of the 700 range, from local memory (R2)."""

    def own(self) -> Platform:
        """The one that this router is of."""

    def holder(self, number: str) -> Platform | None:
        """Who holds the number's block; None: nobody that is known."""


class PartyTagger(Protocol):
    """Makes the blind tag of a real number (`sealing.Tagger`)."""

    def party(self, tenant: str, e164: str) -> bytes: ...


class Opener(Protocol):
    """Opens route copies."""

    def callee(self, number: str, entry: Entry, tag: bytes) -> str:
        """The E.164 number of the entry's callee; `tag` is that of the number that calls, or what
        reaches the callee instead: an extension's digits, or nothing where anyone does; of mode
        AXE's A, the number itself.

        Raises:
            KeyUnavailable: it does not open, for whatever reason.
        """

    def sealed(self, number: str, entry: Entry, callee: str, caller: str, time_ms: int) -> bytes:
        """The box of a last caller, under the key of the entry's copy, which was just opened.

        Raises:
            KeyUnavailable: it is gone in the meantime.
        """


class Unverified(Exception):
    """The verifier gave no verdict, for whatever reason, or not in time."""


class Verifier(Protocol):
    """Says whether a call's order is genuine (R15)."""

    def verify(self, decision: Decision) -> tuple[bool, int]:
        """Whether it is, and for how many ms that holds for this version of the binding (0: for
        this call alone). Waits no longer than its budget.

        Raises:
            Unverified: no verdict.
        """


class Recorder(Protocol):
    """Keeps decisions and reports, in the order they are given."""

    def decided(self, decision: Decision) -> None:
        """When it returns, the decision outlives this process and will reach `router.calls.v1`.

        Raises:
            ResourceExhausted: JOURNAL_FULL: it was not kept; the call must not be connected.
        """

    def messaged(self, decision: Decision, text: Text) -> None:
        """The same of a short message; of its text no more is kept than encoding and parts.

        Raises:
            ResourceExhausted: JOURNAL_FULL: it must not be forwarded.
        """

    def called(self, last: LastCaller) -> None:
        """The same for who called last, which will reach `router.callers.v1`."""

    def progressed(self, progress: Progress, time_ms: int) -> None:
        """The same for a switch's report."""
