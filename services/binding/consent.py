"""What a consent and a consent policy are, and what may become of them (R4, R5). Pure.

Refuses to know real numbers: a person is a blind tag. Invariant: of one person's consents in a
tenant the one of the highest generation counts, whether it is in force or withdrawn; a withdrawal
takes two steps, and never goes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, Literal, NamedTuple

from services.binding.domain import REMEMBERED_MS, Answered
from services.runtime.errors import FailedPrecondition

LONGEST_MS: Final = 1827 * REMEMBERED_MS  # five years
GRACE_MS: Final = 600_000
LONGEST_GRACE_MS: Final = 7 * REMEMBERED_MS
# R16: a consent can be shown for six months after its end.
_KEPT_MS: Final = 184 * REMEMBERED_MS

Letter = Literal["L", "D", "W"]


class ConsentState(IntEnum):
    """Numbered as in the proto; SUPERSEDED and EXPIRED are seen from outside only, ERASED never."""

    ACTIVE = 1
    WITHDRAWAL_REQUESTED = 2
    DRAINING = 3
    WITHDRAWN = 4
    SUPERSEDED = 5
    EXPIRED = 6
    ERASED = 7


class Parties(IntEnum):
    """Whose consent is needed; numbered as in the proto."""

    NONE = 1
    A = 2
    B = 3
    BOTH = 4

    @property
    def letters(self) -> str:
        """The sides, as store/barred.lua reads them."""
        return {Parties.NONE: "", Parties.A: "A", Parties.B: "B", Parties.BOTH: "AB"}[self]


class Mark(NamedTuple):
    """What a create is judged by: where a person's newest consent stands. L: in force, D: withdrawn
    and draining, W: withdrawn."""

    generation: int
    letter: Letter
    expire_ms: int
    consent: str

    def __str__(self) -> str:
        return f"{self.generation}:{self.letter}:{self.expire_ms}:{self.consent}"

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """What `str` made."""
        generation, letter, expire, consent = text.split(":")
        return cls(int(generation), letter, int(expire), consent)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A withdrawal as far as it has come. Times are milliseconds since 1970; 0: not yet."""

    request_ms: int
    notice_version: str
    locale: str
    withdraw_ms: int = 0
    drain_ms: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Consent:
    """A consent at one version."""

    tenant: str
    id: str
    generation: int
    tag: bytes
    terms_version: str
    channel: str
    evidence_ref: str
    grant_ms: int
    expire_ms: int
    update_ms: int
    requests: tuple[Answered, ...]
    version: int = 1
    state: ConsentState = ConsentState.ACTIVE
    withdrawal: Withdrawal | None = None

    def __repr__(self) -> str:
        return f"<Consent {self.id} version {self.version} {self.state.name}>"

    @property
    def withdrawn(self) -> bool:
        """Nothing new rests on it."""
        return self.state >= ConsentState.DRAINING

    @property
    def end_ms(self) -> int:
        """When the last that rests on it is over; its retention counts from then."""
        if self.state is ConsentState.ERASED:
            return self.update_ms
        drain = self.withdrawal.drain_ms if self.withdrawal else 0
        return drain or self.expire_ms

    @property
    def due_ms(self) -> int:
        """When there is something to do: at once while it drains, else when it is forgotten."""
        return 0 if self.state is ConsentState.DRAINING else self.end_ms + _KEPT_MS

    @property
    def mark(self) -> Mark:
        """See Mark."""
        letter: Letter = "L"
        if self.withdrawn:
            letter = "D" if self.state is ConsentState.DRAINING else "W"
        return Mark(self.generation, letter, self.expire_ms, self.id)

    def seen(self, now: int, *, newest: bool) -> ConsentState:
        """Its state as shown."""
        if self.withdrawn:
            return self.state
        if not newest:
            return ConsentState.SUPERSEDED
        return ConsentState.EXPIRED if self.expire_ms <= now else self.state

    def asked(self, request: Answered, notice_version: str, locale: str) -> "Consent":
        """The consent, its withdrawal asked for; again, where it was before.

        Raises:
            FailedPrecondition: CONSENT_ENDED.
        """
        self._check_in_force(request.time_ms)
        return self._next(
            request,
            state=ConsentState.WITHDRAWAL_REQUESTED,
            withdrawal=Withdrawal(request.time_ms, notice_version, locale),
        )

    def confirmed(self, request: Answered, grace_ms: int) -> "Consent":
        """The consent, withdrawn. Whoever calls has checked the token.

        Raises:
            FailedPrecondition: CONSENT_ENDED; CONFIRMATION_INVALID: not asked for, or a day ago.
        """
        now, asked = request.time_ms, self.withdrawal
        self._check_in_force(now)
        if asked is None or asked.request_ms <= now - REMEMBERED_MS:
            raise not_confirmed(self.id)
        drain = replace(asked, withdraw_ms=now, drain_ms=now + grace_ms)
        return self._next(request, state=ConsentState.DRAINING, withdrawal=drain)

    def drained(self, now: int) -> "Consent":
        """The consent, once every binding that was live at the withdrawal drains."""
        return replace(self, version=self.version + 1, update_ms=now, state=ConsentState.WITHDRAWN)

    def erased(self, now: int) -> "Consent":
        """The consent, over and shown to nobody from then on (R17)."""
        return replace(self, version=self.version + 1, update_ms=now, state=ConsentState.ERASED)

    def _check_in_force(self, now: int) -> None:
        if self.withdrawn or self.expire_ms <= now:
            raise ended(self.id)

    def _next(self, request: Answered, state: ConsentState, withdrawal: Withdrawal) -> "Consent":
        now, version = request.time_ms, self.version + 1
        recent = tuple(r for r in self.requests if r.time_ms > now - REMEMBERED_MS)
        return replace(
            self,
            version=version,
            update_ms=now,
            state=state,
            withdrawal=withdrawal,
            requests=(*recent, replace(request, version=version)),
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A tenant's consent policy; version 0: never set."""

    tenant: str
    parties: Parties = Parties.NONE
    grace_ms: int = GRACE_MS
    pools: Mapping[str, Parties] = field(default_factory=dict)
    version: int = 0
    update_ms: int = 0

    @property
    def mark(self) -> str:
        """As store/barred.lua reads it: version and default, then a line per pool."""
        lines = [f"{self.version}:{self.parties.letters}"]
        lines += (f"{pool}={parties.letters}" for pool, parties in sorted(self.pools.items()))
        return "\n".join([*lines, ""])


def ended(consent: str) -> FailedPrecondition:
    """Withdrawn, superseded or expired."""
    return FailedPrecondition("CONSENT_ENDED", "the consent is not in force", consent=consent)


def not_confirmed(consent: str) -> FailedPrecondition:
    """What a token gets that does not fit."""
    return FailedPrecondition(
        "CONFIRMATION_INVALID", "ask for the withdrawal again", consent=consent
    )


class Notice(NamedTuple):
    """What a person is told before a consent is withdrawn (R5)."""

    version: str
    locale: str
    text: str


# The text of a version never changes: the version is kept with the withdrawal, and says for ever
# what the person was told.
DEFAULT_LOCALE: Final = "zh"
NOTICES: Final = {
    "zh": Notice(
        "1",
        "zh",
        "撤回同意后，号码保护服务将对您停止，您的真实号码可能对通话对方可见。"
        "正在进行的通话不会中断；现有绑定在宽限期内仍可正常通信，宽限期结束后解除，"
        "此后不再为您建立新的绑定。您可以随时重新同意使用本服务。",
    ),
    "en": Notice(
        "1",
        "en",
        "If you withdraw your consent, the number protection service ends for you and your real "
        "number may become visible to the people you talk to. Calls in progress go on. Your "
        "bindings keep working through the grace period and are then released; no new binding is "
        "made for you. You may consent again at any time.",
    ),
}
