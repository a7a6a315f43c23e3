"""The ports of binding in memory: stores that behave, numbers in turn, and a world around them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from services.binding import blacklist
from services.binding.consent import Mark, Policy
from services.binding.domain import Answered, Binding, Direction, Lease, Terms
from services.binding.ports import Answer, ConsentsChanged, Index, LeaseRefused, Lost, Stored, Taken
from services.runtime.clock import ManualClock
from services.runtime.errors import AxbridgeError, FailedPrecondition
from services.runtime.phone import PhoneNumber

DAY_MS = 86_400_000
TENANT = "didi"
POOL = f"tenants/{TENANT}/pools/city"


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
        self, binding: Binding, a: PhoneNumber, b: PhoneNumber, order_tag: bytes, lease: Lease
    ) -> int:
        request = binding.requests[0]
        known = self.requests.get((binding.tenant, request.request_id))
        if known:
            raise Taken(known)
        tags = binding.tag_a, binding.tag_b
        named = await self.consented(binding.tenant, binding.terms.pool, tags)
        if named != (binding.consent_a, binding.consent_b):
            raise ConsentsChanged
        self._refuse_listed(binding)
        self._refuse(binding, lease)
        return self._write(binding, request, order_tag.hex())

    async def consented(self, tenant: str, pool: str, tags: tuple[bytes, bytes]) -> tuple[str, str]:
        policy = self.policies.get(tenant, Policy(tenant))
        needed, named = policy.pools.get(pool, policy.parties).letters, []
        for party, tag in zip("AB", tags, strict=True):
            mark = self.marks.get((tenant, tag))
            live = mark and mark.letter == "L" and mark.expire_ms > self.clock.epoch_ms()
            if (mark and mark.letter != "L") or (party in needed and not live):
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
        now = self.clock.epoch_ms()
        epoch, cool = self.numbers.get(binding.number, (0, 0))
        live = [r.binding for r in self.rows.values() if r.binding.live]
        on = [other for other in live if other.number == binding.number]
        tags = {tag for other in on for tag in (other.tag_a, other.tag_b)}
        rest = max(self.cooling.get((binding.number, t), 0) for t in (binding.tag_a, binding.tag_b))
        for wrong, reason in (
            (lease.deadline_ms <= now, "LEASE_STALE"),
            (binding.exclusive and lease.epoch <= epoch, "LEASE_STALE"),
            (binding.exclusive and bool(on), "NUMBER_OCCUPIED"),
            (not binding.exclusive and len(on) >= 200, "NUMBER_FULL"),
            (cool > now, "NUMBER_COOLING"),
            (bool(tags & {binding.tag_a, binding.tag_b}) or rest > now, "PARTY_ON_NUMBER"),
        ):
            if wrong:
                raise LeaseRefused(reason)

    def _write(self, binding: Binding, request: Answered | None, order: str = "") -> int:
        if self.fail and self.fail[0] == "before":
            (_, error), self.fail = self.fail, None
            raise error
        self._sequence += 1
        self.rows[binding.id] = Stored(binding, self._sequence, None)
        self.orders.setdefault(binding.id, order)
        epoch, cool = self.numbers.get(binding.number, (0, 0))
        if not binding.live:
            if binding.exclusive:
                cool = max(cool, binding.cool_until_ms)
            else:
                for tag in (binding.tag_a, binding.tag_b):
                    self.cooling[binding.number, tag] = binding.cool_until_ms
        self.numbers[binding.number] = max(epoch, binding.lease_epoch), cool
        if request:
            key = binding.tenant, request.request_id
            self.requests[key] = Answer(request.body_hash, binding.id)
        if self.fail:
            (_, error), self.fail = self.fail, None
            raise error
        return self._sequence

    async def get(self, binding: str) -> Stored | None:
        return self.rows.get(binding)

    async def change(self, old: Stored, new: Binding) -> int:
        request = new.requests[-1] if new.requests[-1].version == new.version else None
        known = request and self.requests.get((new.tenant, request.request_id))
        if known:
            raise Taken(known)
        current = self._current(old)
        if current.terms.expire_ms <= self.clock.epoch_ms():
            raise Lost
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
                "number": [b.number],
                "order": [self.orders[identity]],
                "party": [b.tag_a.hex(), b.tag_b.hex()],
            }[index.kind]
            if b.tenant == tenant and index.value in value and identity > after:
                found.append(identity)
        return found[:limit]

    async def due(self, what: Literal["expiry", "forget"], limit: int) -> tuple[int, Sequence[str]]:
        now = self.clock.epoch_ms()
        rows = [stored.binding for stored in self.rows.values()]
        if what == "expiry":
            ids = [b.id for b in rows if b.live and b.terms.expire_ms <= now]
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

    async def lease(
        self, pool: str, tags: tuple[bytes, bytes], excluded: Sequence[str], seconds: float
    ) -> Lease:
        self.leased += 1
        self.excluded.append(excluded)
        number = self.next.pop(0) if self.next else f"7001000{self.leased:08d}"
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
