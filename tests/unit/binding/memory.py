"""The ports of binding in memory: stores that behave, numbers in turn, and a world around them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from services.binding import blacklist
from services.binding.consent import Mark, Policy
from services.binding.domain import Answered, Binding, Direction, Lease, Mode, Terms
from services.binding.ports import Answer, ConsentsChanged, Index, LeaseRefused, Lost, Stored, Taken
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError, FailedPrecondition, ResourceExhausted
from services.runtime.phone import PhoneNumber
from services.runtime.selection import ANY, Selection

DAY_MS = 86_400_000
TENANT = "didi"
POOL = f"tenants/{TENANT}/pools/city"


def marks(binding: Binding) -> tuple[set[bytes], bytes]:
    """Whom and which extension a binding holds on its number; a temporary callee is not held."""
    b = set() if binding.terms.mode is Mode.AX else {binding.tag_b} - {b""}
    return {binding.tag_a, *b}, binding.terms.options.extension.encode()


class MemoryBindings:
    """ports.Bindings on dictionaries; `fail` is raised once, before or after the next write."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.rows: dict[str, Stored] = {}
        self.requests: dict[tuple[str, str], Answer] = {}
        self.numbers: dict[str, tuple[int, int]] = {}  # highest epoch, cooling until
        self.cooling: dict[tuple[str, bytes], int] = {}
        self.orders: dict[str, str] = {}
        self.postponed: dict[str, int] = {}
        self.broken: dict[str, AxbridgeError] = {}
        self.waited: list[int] = []
        self.marks: dict[tuple[str, bytes], Mark] = {}
        self.policies: dict[str, Policy] = {}
        self.listed: dict[tuple[str, blacklist.Target], blacklist.Mark] = {}
        self.fail: tuple[Literal["before", "after"], AxbridgeError] | None = None
        self._sequence = 0

    async def answered(self, tenant: str, request_id: str) -> Answer | None:
        return self.requests.get((tenant, request_id))

    async def create(
        self,
        binding: Binding,
        a: PhoneNumber,
        b: PhoneNumber | None,
        order_tag: bytes,
        lease: Lease,
    ) -> int:
        request = binding.requests[0]
        known = self.requests.get((binding.tenant, request.request_id))
        if known:
            raise Taken(known)
        await self._barred(binding)
        self._refuse(binding, lease)
        return self._write(binding, request, order_tag.hex())

    async def _barred(self, binding: Binding) -> None:
        tags = binding.tag_a, binding.tag_b
        named = await self.consented(binding.tenant, binding.terms.pool, tags)
        if named != (binding.consent_a, binding.consent_b):
            raise ConsentsChanged
        self._refuse_listed(binding)

    async def consented(self, tenant: str, pool: str, tags: tuple[bytes, bytes]) -> tuple[str, str]:
        policy = self.policies.get(tenant, Policy(tenant))
        needed, named = policy.pools.get(pool, policy.parties).letters, []
        for party, tag in zip("AB", tags, strict=True):
            mark = self.marks.get((tenant, tag))
            live = mark and mark.letter == "L" and mark.expire_ms > self.clock.epoch_ms()
            if (mark and mark.letter != "L") or (party in needed and tag and not live):
                raise FailedPrecondition("CONSENT_MISSING", party=party)
            named.append(mark.consent if mark and live else "")
        return named[0], named[1]

    def _refuse_listed(self, binding: Binding) -> None:
        a, b, only = binding.tag_a, binding.tag_b, binding.terms.direction
        targets = {"A": (a, b""), "B": (b, b"")}
        if only is not Direction.B_TO_A:
            targets["A_TO_B"] = (a, b)
        if only is not Direction.A_TO_B:
            targets["B_TO_A"] = (b, a)
        for scope, pool in (("tenant", ""), ("pool", binding.terms.pool)):
            for name, (caller, callee) in targets.items():
                key = binding.tenant, blacklist.Target(caller, callee, pool)
                mark = self.listed.get(key)
                if mark and mark.expire_ms > self.clock.epoch_ms():
                    raise FailedPrecondition("PARTY_BLACKLISTED", scope=scope, target=name)

    def _refuse(self, binding: Binding, lease: Lease) -> None:
        for number, own in zip(
            binding.numbers, (binding.lease_epoch, binding.second_epoch), strict=False
        ):
            self._refuse_on(number, own, binding, lease)
        live = [r.binding for r in self.rows.values() if r.binding.live]
        held = [b for b in live if b.terms.mode is Mode.AX and b.tag_a == binding.tag_a]
        if binding.terms.mode is Mode.AX and len(held) >= 5:
            raise FailedPrecondition("PARTY_FULL")

    def _refuse_on(self, number: str, own: int, binding: Binding, lease: Lease) -> None:
        now = self.clock.epoch_ms()
        epoch, cool = self.numbers.get(number, (0, 0))
        live = [r.binding for r in self.rows.values() if r.binding.live]
        on = [other for other in live if number in other.numbers]
        here, extension = marks(binding)
        tags = {tag for other in on for tag in marks(other)[0]}
        extensions = {marks(other)[1] for other in on} - {b""}
        rests = {self.cooling.get((number, tag), 0) for tag in here}
        last = min(rests) == max(rests) and (
            not binding.exclusive
            or cool == max(rests) - binding.pair_cooling_ms + binding.cooling_ms
        )
        sticky = lease.sticky and number == binding.number
        again = sticky and last and max(rests) > 0
        for wrong, reason in (
            (lease.deadline_ms <= now, "LEASE_STALE"),
            (binding.exclusive and own <= epoch, "LEASE_STALE"),
            (binding.exclusive and bool(on), "NUMBER_OCCUPIED"),
            (not binding.exclusive and len(on) >= 200, "NUMBER_FULL"),
            (cool > now and not again, "NUMBER_COOLING"),
            (bool(tags & here) or (max(rests) > now and not again), "PARTY_ON_NUMBER"),
            (extension in extensions, "EXTENSION_TAKEN"),
            (self.cooling.get((number, extension), 0) > now, "EXTENSION_TAKEN"),
        ):
            if wrong:
                raise LeaseRefused(reason, number)

    async def extension(self, binding: Binding, digits: int, start: int) -> str | None:
        number = binding.number
        live = [r.binding for r in self.rows.values() if r.binding.live]
        used = {marks(b)[1].decode() for b in live if b.number == number}
        now = self.clock.epoch_ms()
        for step in range(10**digits):
            tried = f"{(start + step) % 10**digits:0{digits}}"
            if tried not in used and self.cooling.get((number, tried.encode()), 0) <= now:
                return tried
        return None

    def _write(self, binding: Binding, request: Answered | None, order: str = "") -> int:
        if self.fail and self.fail[0] == "before":
            (_, error), self.fail = self.fail, None
            raise error
        self._sequence += 1
        self.rows[binding.id] = Stored(binding, self._sequence, None)
        self.orders.setdefault(binding.id, order)
        till = binding.cool_until_ms
        if binding.pair_cooling_ms:
            till += binding.pair_cooling_ms - binding.cooling_ms
        for number, own in zip(
            binding.numbers, (binding.lease_epoch, binding.second_epoch), strict=False
        ):
            epoch, cool = self.numbers.get(number, (0, 0))
            if not binding.live:
                if binding.exclusive:
                    cool = max(cool, binding.cool_until_ms)
                if binding.pair_cooling_ms or not binding.exclusive:
                    for tag in {*marks(binding)[0], marks(binding)[1]} - {b""}:
                        self.cooling[number, tag] = till
            self.numbers[number] = max(epoch, own), cool
        if request:
            key = binding.tenant, request.request_id
            self.requests[key] = Answer(request.body_hash, binding.id)
        if self.fail:
            (_, error), self.fail = self.fail, None
            raise error
        return self._sequence

    async def get(self, binding: str) -> Stored | None:
        return self.rows.get(binding)

    async def change(self, old: Stored, new: Binding, b: PhoneNumber | None = None) -> int:
        assert b is None or new.tag_b  # who brings a number brings its tag
        request = new.requests[-1] if new.requests[-1].version == new.version else None
        known = request and self.requests.get((new.tenant, request.request_id))
        if known:
            raise Taken(known)
        current = self._current(old)
        if current.terms.expire_ms <= self.clock.epoch_ms():
            raise Lost
        if b and new.terms.mode is Mode.AXB:
            await self._barred(new)
        return self._write(new, request)

    async def release(self, old: Stored, new: Binding) -> int:
        self._current(old)
        return self._write(new, None)

    async def live(
        self, tenant: str, tag: bytes, after: str, limit: int
    ) -> tuple[Sequence[str], str]:
        ids = await self.page(tenant, Index("party", tag.hex()), after, limit)
        live = [each for each in ids if self.rows[each].binding.live]
        return live, ids[-1] if len(ids) == limit else ""

    def _current(self, old: Stored) -> Binding:
        current = self.rows[old.binding.id].binding
        if current.version != old.binding.version or not current.live:
            raise Lost
        return current

    async def read(self, ids: Sequence[str]) -> Sequence[Stored | AxbridgeError | None]:
        return [self.broken.get(each) or self.rows.get(each) for each in ids]

    async def expire(self, ends: Sequence[tuple[Stored, Binding]]) -> Sequence[int | AxbridgeError]:
        outcomes: list[int | AxbridgeError] = []
        for old, new in ends:
            row = self.rows.get(old.binding.id)
            fits = row and row.binding.live and row.binding.version == old.binding.version
            due = row and row.binding.terms.expire_ms <= self.clock.epoch_ms()
            outcomes.append(self._write(new, None) if fits and due else 0)
        return outcomes

    async def unname(
        self, changes: Sequence[tuple[Stored, Binding]]
    ) -> Sequence[int | AxbridgeError]:
        outcomes = []
        for old, new in changes:
            try:
                outcomes.append(await self.change(old, new))
            except Lost:
                outcomes.append(0)
        return outcomes

    async def forget(self, olds: Sequence[Stored]) -> Sequence[int]:
        outcomes = []
        for old in olds:
            row = self.rows.get(old.binding.id)
            gone = row is None or row.binding.live or row.binding.forget_ms > self.clock.epoch_ms()
            outcomes.append(0 if gone else self._drop(old.binding.id))
        return outcomes

    def _drop(self, identity: str) -> int:
        del self.rows[identity]
        self.requests = {k: a for k, a in self.requests.items() if a.binding != identity}
        self._sequence += 1
        return self._sequence

    async def page(self, tenant: str, index: Index, after: str, limit: int) -> Sequence[str]:
        found = []
        for identity, stored in sorted(self.rows.items()):
            b = stored.binding
            value = {
                "number": list(b.numbers),
                "order": [self.orders[identity]],
                "party": [tag.hex() for tag in marks(b)[0]],
            }[index.kind]
            if b.tenant == tenant and index.value in value and identity > after:
                found.append(identity)
        return found[:limit]

    async def due(self, what: Literal["expiry", "forget"], limit: int) -> tuple[int, Sequence[str]]:
        now = self.clock.epoch_ms()
        rows = [stored.binding for stored in self.rows.values()]
        if what == "expiry":
            ids = [b.id for b in rows if b.live and b.due_ms <= now]
        else:
            ids = [b.id for b in rows if not b.live and b.forget_ms <= now]
        ids = [each for each in ids if self.postponed.get(each, 0) <= now]
        return now, ids[:limit]

    async def postpone(self, what: Literal["expiry", "forget"], binding: str, until: int) -> None:
        self.postponed[binding] = until

    async def published(self, sequence: int, seconds: float) -> None:
        self.waited.append(sequence)


@dataclass
class MemoryNumbers:
    """ports.Numbers: the numbers of `next`, then fresh ones."""

    clock: ManualClock
    exclusive: bool = True
    next: list[str] = field(default_factory=list)
    excluded: list[Sequence[str]] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    leased: int = 0
    exhausted_after: int = 1_000_000  # leases

    async def lease(
        self,
        pool: str,
        tags: Sequence[bytes],
        excluded: Sequence[str],
        seconds: float,
        selection: Selection = ANY,
    ) -> Lease:
        if self.leased >= self.exhausted_after:
            raise ResourceExhausted("POOL_EXHAUSTED")
        self.leased += 1
        self.excluded.append(excluded)
        fresh = self.next.pop(0) if self.next else f"7001000{self.leased:08d}"
        number = selection.number or fresh
        deadline = self.clock.epoch_ms() + 30_000
        return Lease(number, self.leased, deadline, self.exclusive, DAY_MS)

    def give_back(self, pool: str, lease: Lease) -> None:
        self.returned.append(lease.number)


def terms(clock: ManualClock, **changes: object) -> Terms:
    """Good terms: an hour, both ways."""
    made = Terms(POOL, "order-1", "taxi", clock.epoch_ms() + 3_600_000, Direction.BOTH, 0, b"data")
    return replace(made, **changes)  # type: ignore[arg-type]


def binding(clock: ManualClock, identity: str, **changes: object) -> Binding:
    """A live binding of a minute ago, with a request of its own."""
    now = clock.epoch_ms()
    request = Answered(f"request-{identity}", b"h" * 16, now, 1)
    made = Binding(
        TENANT, identity, "700100000010001", terms(clock), b"a" * 16, b"b" * 16, 7, 60_000, True,
        now, now, (request,),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]
