"""Requests to domain values, and domain values to answers. Pure; total both ways.

Refuses whatever the contract does not allow, each with its field. Invariant: a domain value that
leaves here is well formed, and an answer says nothing that the domain value does not.
"""

import base64
import binascii
import uuid
from collections.abc import Sequence
from typing import Final

from axbridge.allocator.v1 import allocator_service_pb2 as service_pb2
from axbridge.allocator.v1 import number_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.allocator import domain, names
from services.allocator.domain import (
    Block,
    Import,
    Lease,
    Leased,
    Pool,
    PoolId,
    Refusal,
    Refused,
)
from services.allocator.messages import POLICY, POLICY_OUT, STATES, duration, millis, timestamp
from services.runtime import selectionwire
from services.runtime.errors import InvalidArgument
from services.runtime.status import DOMAIN

_PAGE: Final = (1000, 100)  # at most, by default
_REFUSALS: Final = {
    Refused.EXHAUSTED: (
        code_pb2.RESOURCE_EXHAUSTED,
        "no number of the pool can take these parties",
    ),
    Refused.AREA: (code_pb2.RESOURCE_EXHAUSTED, "no number of these areas can take these parties"),
    Refused.UNAVAILABLE: (code_pb2.FAILED_PRECONDITION, "the number cannot be given out now"),
    Refused.UNKNOWN: (code_pb2.NOT_FOUND, "no registered block holds the number"),
    Refused.FOREIGN: (code_pb2.PERMISSION_DENIED, "the number belongs to another pool"),
}


def pool_in(message: number_pb2.Pool, now_ms: int) -> Pool:
    """The pool to create. Raises InvalidArgument."""
    policy = POLICY.get(message.policy)
    if policy is None:
        raise invalid("pool.policy", "EXCLUSIVE or SHARED")
    cooling = domain.DEFAULT_COOLING_MS
    if message.HasField("cooling"):
        cooling = span(message.cooling, domain.COOLING_RANGE_MS, "pool.cooling")
    pair = cooling if policy is domain.Policy.SHARED else 0
    if message.HasField("pair_cooling"):
        # A pair that rests less than its number would rest as long as that all the same.
        within = (cooling, domain.COOLING_RANGE_MS[1])
        pair = span(message.pair_cooling, within, "pool.pair_cooling")
    return Pool(names.pool_id(message.name, "pool.name"), policy, cooling, now_ms, pair)


def block_in(message: number_pb2.Block, now_ms: int) -> Block:
    """The block to register. Raises InvalidArgument."""
    digits = names.block_digits(message.name)
    area = message.area and names.area_code(message.area, "block.area")
    return Block(digits, names.pool_id(message.pool, "block.pool"), now_ms, area)


def wishes_in(
    request: service_pb2.LeaseNumbersRequest,
) -> tuple[PoolId, list[domain.Wish], int]:
    """Pool, wishes and life of the leases in ms. Raises InvalidArgument."""
    pool = names.pool_id(request.parent, "parent")
    if not 1 <= len(request.items) <= domain.MAX_ITEMS:
        raise invalid("items", "1 to 200 items")
    life = domain.DEFAULT_LEASE_MS
    if request.HasField("duration"):
        life = span(request.duration, domain.LEASE_RANGE_MS, "duration")
    return pool, [_wish(item) for item in request.items], life


def _wish(item: service_pb2.LeaseItem) -> domain.Wish:
    if len(item.excluded_numbers) > domain.MAX_ITEMS:
        raise invalid("items.excluded_numbers", "at most 200 numbers")
    excluded = tuple(names.middle_number(n) for n in item.excluded_numbers)
    tags = _tags(item.party_tags, domain.MAX_ITEMS)
    if not item.HasField("selection"):
        return domain.Wish(tags, excluded)
    return domain.Wish(tags, excluded, selectionwire.read(item.selection, "items.selection"))


def _tags(tags: Sequence[bytes], most: int) -> tuple[bytes, ...]:
    if any(len(tag) != domain.TAG_OCTETS for tag in tags) or len(tags) > most:
        raise invalid("items.party_tags", f"at most {most} tags of 16 octets")
    return tuple(tags)


def leased_out(leased: Leased) -> service_pb2.LeaseNumbersResponse:
    """One result per wish."""
    return service_pb2.LeaseNumbersResponse(results=results_out(leased))


def results_out(leased: Leased) -> list[service_pb2.LeaseResult]:
    """One result per lease or refusal."""
    pool = leased.pool
    policy, cooling = POLICY_OUT[pool.policy], duration(pool.rest_ms)
    pair = None
    if pool.policy is domain.Policy.EXCLUSIVE and pool.pair_cooling_ms:
        pair = duration(pool.pair_cooling_ms)
    return [
        service_pb2.LeaseResult(error=_refused(pool.id, lease))
        if isinstance(lease, Refusal)
        else service_pb2.LeaseResult(
            lease=number_pb2.Lease(
                number=lease.number,
                epoch=lease.epoch,
                expire_time=timestamp(lease.deadline_ms),
                policy=policy,
                cooling=cooling,
                pair_cooling=pair,
                sticky=lease.sticky,
            )
        )
        for lease in leased.leases
    ]


def _refused(pool: PoolId, refusal: Refusal) -> status_pb2.Status:
    code, message = _REFUSALS[refusal.reason]
    status = status_pb2.Status(code=code, message=message)
    info = error_details_pb2.ErrorInfo(reason=refusal.reason.value, domain=DOMAIN)
    info.metadata["pool"] = pool.name
    if refusal.reason is Refused.AREA:
        info.metadata["areas"] = ",".join(refusal.selection.areas)
    elif refusal.reason is not Refused.EXHAUSTED:
        info.metadata["number"] = refusal.selection.number
    if refusal.why:
        info.metadata["why"] = refusal.why
    status.details.add().Pack(info)
    return status


def leases_in(messages: Sequence[number_pb2.Lease]) -> list[Lease]:
    """The leases to return. Raises InvalidArgument."""
    if not 1 <= len(messages) <= domain.MAX_ITEMS:
        raise invalid("leases", "1 to 200 leases")
    if any(message.epoch < 1 for message in messages):
        raise invalid("leases.epoch", "as given by LeaseNumbers")
    return [Lease(names.middle_number(message.number), message.epoch) for message in messages]


def imports_in(
    request: service_pb2.ImportNumbersRequest, now_ms: int
) -> tuple[PoolId, list[Import]]:
    """Pool and imports. Raises InvalidArgument."""
    if not 1 <= len(request.items) <= domain.MAX_ITEMS:
        raise invalid("items", "1 to 200 items")
    return names.pool_id(request.parent, "parent"), [_import(i, now_ms) for i in request.items]


def _import(item: service_pb2.ImportItem, now_ms: int) -> Import:
    try:
        given = uuid.UUID(item.import_id)
    except ValueError:
        given = uuid.UUID(int=0)
    if given.version != 4 or str(given) != item.import_id:
        raise invalid("items.import_id", "a UUID4 in lower case")
    until = millis(item.expire_time)
    least, most = domain.IMPORT_RANGE_MS
    if not least <= until - now_ms <= most:
        raise invalid("items.expire_time", "1 minute to 30 days ahead")
    return Import(
        names.middle_number(item.number), item.import_id, until, _tags(item.party_tags, 2)
    )


def reason_in(text: str) -> str:
    """An operator's reason. Raises InvalidArgument."""
    if not 1 <= len(text) <= domain.MAX_REASON:
        raise invalid("reason", "1 to 200 characters")
    return text


def state_in(value: int) -> domain.State | None:
    """A filter by state. Raises InvalidArgument."""
    if value == number_pb2.NUMBER_STATE_UNSPECIFIED:
        return None
    if value not in STATES:
        raise invalid("state", "not a state of numbers")
    return STATES[value]  # type: ignore[index]


def page_in(size: int, token: str, of: str) -> tuple[int, str]:
    """How many, and the key that the page begins behind. `of` ties a token to its list.

    Raises InvalidArgument (INVALID_FIELD, INVALID_PAGE_TOKEN).
    """
    if not 0 <= size <= _PAGE[0]:
        raise invalid("page_size", "1 to 1000, 0 for the default")
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        text = ""
    list_, _, after = text.rpartition("\x1f")
    if token and (list_ != of or not after):
        raise InvalidArgument("INVALID_PAGE_TOKEN", "not a token of this list", field="page_token")
    return size or _PAGE[1], after


def page_token(of: str, last: str) -> str:
    """The token of the page behind `last`; empty after the last page."""
    return base64.urlsafe_b64encode(f"{of}\x1f{last}".encode()).decode() if last else ""


def span(message: Duration, within: tuple[int, int], field: str) -> int:
    """A span in ms. Raises InvalidArgument."""
    ms = millis(message)
    if not within[0] <= ms <= within[1]:
        raise invalid(field, f"{within[0]} to {within[1]} ms")
    return ms


def invalid(field: str, text: str) -> InvalidArgument:
    """A refusal of a field."""
    return InvalidArgument("INVALID_FIELD", text, field=field)
