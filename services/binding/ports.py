"""What bindings need of the world. Protocols only; their docstrings are contracts.

Refuses to name a technology. Invariant: whatever a write returns or raises, it happened whole or
not at all; only STORE_UNAVAILABLE leaves open which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from services.binding.blacklist import Entry, Target
from services.binding.blacklist import Mark as EntryMark
from services.binding.consent import Consent, Mark, Policy
from services.binding.domain import Answered, Binding, Lease
from services.runtime.errors import AxbridgeError
from services.runtime.phone import PhoneNumber
from services.runtime.selection import ANY, Selection


class LeaseRefused(Exception):
    """The cell refuses a number for these parties; lease another. Carries reason and number."""

    def __init__(self, reason: str, number: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.number = number


class Taken(Exception):
    """The request id was answered in the meantime, by this binding or to another body."""

    def __init__(self, answer: "Answer") -> None:
        super().__init__()
        self.answer = answer


class Lost(Exception):
    """The binding is no longer at the version that the change was made from; nothing changed."""


class ConsentsChanged(Exception):
    """The consents that a new binding names are not those in force any more: read them again."""


class Answer(NamedTuple):
    """What a request id led to."""

    body_hash: bytes
    binding: str  # or a consent, or an entry of a blacklist: its id


@dataclass(frozen=True, slots=True, repr=False)
class Stored:
    """A binding as the store has it. `sequence`: what to wait for before Kafka has it, 0: it has.
    `sealed` is the store's own: copies that only it opens."""

    binding: Binding
    sequence: int
    sealed: object


class Index(NamedTuple):
    """What bindings are listed by; `value` is a number or a tag in hex."""

    kind: Literal["number", "order", "party"]
    value: str


class Bindings(Protocol):
    """The bindings of a cell. Every method raises Unavailable: STORE_UNAVAILABLE, STORE_HEALING;
    every write also OUTBOX_FULL. A write returns the sequence to give to `published`."""

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """What the request led to, if it came before and is remembered."""

    async def create(
        self,
        binding: Binding,
        a: PhoneNumber,
        b: PhoneNumber | None,
        order_tag: bytes,
        lease: Lease,
    ) -> int:
        """Stores and announces a new binding; the real numbers go into sealed copies only.

        Raises:
            LeaseRefused: the number cannot take it. Taken: a twin was faster. Nothing happened.
            FailedPrecondition: CONSENT_MISSING, PARTY_BLACKLISTED; PARTY_FULL: A cannot take it, on
                whatever number. ConsentsChanged.
        """

    async def consented(self, tenant: str, pool: str, tags: tuple[bytes, bytes]) -> tuple[str, str]:
        """The consents of A and B that a binding must name, empty for none. It may lag: a create
        checks it again.

        Raises:
            FailedPrecondition: CONSENT_MISSING.
        """

    async def extension(self, binding: Binding, digits: int, start: int) -> str | None:
        """The first extension of so many digits, from `start` on and round, that neither stands
        nor rests on the binding's number; None if there is none."""

    async def get(self, binding: str) -> Stored | None:
        """The binding, or None where it never was or is forgotten."""

    async def change(self, old: Stored, new: Binding, b: PhoneNumber | None = None) -> int:
        """Stores and announces new terms of a live binding, sealing its copies anew. The newest of
        its requests is claimed, if it made this version. `b`: the real number of a new B; without,
        it stays or goes with its tag.

        Raises:
            Lost: it is not at `old` any more, has ended, or expired by the store's clock.
            Taken: a twin was faster. Of a new B that stays, what `create` says of parties.
        """

    async def release(self, old: Stored, new: Binding) -> int:
        """Stores and announces the end, and drops the copies of the real numbers that calls use.

        Raises:
            Lost: it is not at `old` any more.
        """

    async def page(self, tenant: str, index: Index, after: str, limit: int) -> Sequence[str]:
        """Ids in order of creation, behind `after`."""

    async def published(self, sequence: int, seconds: float) -> None:
        """Returns once Kafka has it.

        Raises:
            Unavailable: LOG_UNAVAILABLE: not in time; it will still be published.
        """


class Swept(Bindings, Protocol):
    """The bindings of one cell as those see them who look for a person's."""

    async def live(
        self, tenant: str, tag: bytes, after: str, limit: int
    ) -> tuple[Sequence[str], str]:
        """Live bindings among the next `limit` of a party behind `after`; and what to go on behind,
        empty at the end."""


Unreadable: TypeAlias = AxbridgeError  # why a record does not open
BROKEN_MS: Final = 3_600_000  # after which one is looked at again


class Sweeps(Protocol):
    """The bindings of one cell as its sweepers see them. What ends many says for each: the sequence
    to wait for, 0 where it is not at that version any more or not due by the store's clock, or why
    it cannot be read. Raises as Bindings does; then some may have been ended."""

    async def read(self, ids: Sequence[str]) -> Sequence[Stored | Unreadable | None]:
        """Each of them, as Bindings.get does, or why it cannot be read; `sequence` is 0."""

    async def expire(self, ends: Sequence[tuple[Stored, Binding]]) -> Sequence[int | Unreadable]:
        """Releases those that have expired, each as Bindings.release does."""

    async def unname(self, changes: Sequence[tuple[Stored, Binding]]) -> Sequence[int | Unreadable]:
        """Drops temporary callees whose minute is over, each as Bindings.change does."""

    async def forget(self, olds: Sequence[Stored]) -> Sequence[int | Unreadable]:
        """Drops ended bindings whose time has come, and publishes that."""

    async def due(self, what: Literal["expiry", "forget"], limit: int) -> tuple[int, Sequence[str]]:
        """The store's clock, and bindings that are due by it, the longest due first."""

    async def postpone(self, what: Literal["expiry", "forget"], binding: str, until: int) -> None:
        """Puts a binding that is due off, if it is still there."""

    async def published(self, sequence: int, seconds: float) -> None:
        """See Bindings."""


@dataclass(frozen=True, slots=True, repr=False)
class StoredConsent:
    """A consent as the store has it; `sequence` as in Stored. `newest`: of its person."""

    consent: Consent
    sequence: int
    newest: bool


class Consents(Protocol):
    """The consents of a cell; what Bindings says of errors and sequences holds here too."""

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """See Bindings."""

    async def mark(self, tenant: str, tag: bytes) -> Mark | None:
        """Where a person's newest consent stands; None: the person never gave one."""

    async def put(self, consent: Consent, request: Answered | None, before: Mark | None) -> int:
        """Stores and announces a version, the first one or the one after what is stored, if
        `before` is what stands for the person. From then on every create is judged by it.

        Raises:
            Lost: the consent or the person's newest one is not what it was. Taken: a twin was
                faster.
        """

    async def get(self, tenant: str, consent: str) -> StoredConsent | None:
        """The consent, or None where it never was or is forgotten."""

    async def page(self, tenant: str, tag: bytes, after: str, limit: int) -> Sequence[str]:
        """Ids in order of creation, behind `after`; with a tag only those of that person."""

    async def policy(self, tenant: str) -> tuple[Policy, int]:
        """The tenant's policy, the default where none was set, and its sequence."""

    async def set_policy(self, policy: Policy) -> int:
        """Stores and announces the version after what is stored. Raises Lost."""

    async def published(self, sequence: int, seconds: float) -> None:
        """See Bindings."""


@dataclass(frozen=True, slots=True, repr=False)
class StoredEntry:
    """An entry of a blacklist as the store has it; `sequence` as in Stored."""

    entry: Entry
    sequence: int


class Blacklist(Protocol):
    """The blacklists of a cell; what Bindings says of errors and sequences holds here too."""

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        """See Bindings."""

    async def mark(self, tenant: str, target: Target) -> EntryMark | None:
        """The newest entry of the target that was not ended; its time may be over."""

    async def put(
        self, entry: Entry, request: Answered | None, before: EntryMark | None = None
    ) -> int:
        """Stores and announces a version: the one after what is stored, or the first one if
        `before` is what stands for the target. From then on every create is judged by it.

        Raises:
            Lost: the entry, or what stands for a new one's target, is not what it was. Taken: a
                twin was faster.
        """

    async def get(self, tenant: str, entry: str) -> StoredEntry | None:
        """The entry, or None where it never was or is forgotten."""

    async def page(self, tenant: str, tag: bytes, after: str, limit: int) -> Sequence[str]:
        """Ids in order of creation, behind `after`; with a tag only those of that caller."""

    async def published(self, sequence: int, seconds: float) -> None:
        """See Bindings."""


class Numbers(Protocol):
    """Where middle numbers come from."""

    async def lease(
        self,
        pool: str,
        tags: Sequence[bytes],
        excluded: Sequence[str],
        seconds: float,
        selection: Selection = ANY,
    ) -> Lease:
        """A number for these parties, other than those excluded. If nobody binds it before its
        deadline it returns by itself.

        Raises:
            ResourceExhausted: POOL_EXHAUSTED: no number of the pool can take them; AREA_EXHAUSTED.
            NotFound: POOL_NOT_FOUND. Of a number by name also NotFound: NUMBER_NOT_FOUND,
            PermissionDenied: NUMBER_FOREIGN, FailedPrecondition: NUMBER_UNAVAILABLE.
            Unavailable: NEIGHBOUR_UNAVAILABLE.
        """

    def give_back(self, pool: str, lease: Lease) -> None:
        """Says that a lease is not needed. Best effort: never fails, does not wait."""


class Ids(Protocol):
    """Where ids of bindings come from."""

    def new(self) -> str:
        """A fresh UUID, higher than any before from here: lists are in the order of creation."""


class Tags(Protocol):
    """Keyed hashes: equal for equal values of a tenant, meaningless without the key."""

    def party(self, tenant: str, e164: str) -> bytes:
        """The blind tag of a real number."""

    def order(self, tenant: str, order_id: str) -> bytes:
        """The blind tag of an order id."""

    def body(self, tenant: str, text: str) -> bytes:
        """The hash, 16 octets, of a request's canonical text."""
