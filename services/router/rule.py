"""The one rule that decides a call, and what a refused caller meets. Pure.

Refuses to look anything up: whoever calls `decide` has read the view and the clock. Invariant:
whatever is not certain is refused. Only an active entry of this very caller on this very number, or
of whoever the entry's mode lets in, inside its time, hours and direction, connects.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.router.domain import Caller, Decision, Direction, Entry, Mode, Refusal, Side
from services.runtime.options import NONE, Options, parse

# Q.850 causes: 1 unallocated number, 16 normal clearing, 21 call rejected, 23 redirection to new
# destination, 25 exchange routing error, 28 invalid number format, 41 temporary failure. The
# announcement is a name that the switch maps to its recording.
TREATMENT: Final[dict[Refusal, tuple[int, str]]] = {
    Refusal.DIALLED_INVALID: (28, "invalid-number"),
    Refusal.BLOCK_FOREIGN: (1, "unallocated-number"),
    Refusal.CALLER_WITHHELD: (21, "caller-withheld"),
    Refusal.CALLER_INVALID: (21, "caller-invalid"),
    Refusal.NOT_BOUND: (21, "not-authorised"),
    Refusal.EXPIRED: (21, "expired"),
    Refusal.RELEASED: (21, "expired"),
    Refusal.DIRECTION: (21, "wrong-direction"),
    Refusal.VIEW_STALE: (41, "try-later"),
    Refusal.KEY_UNAVAILABLE: (41, "try-later"),
    Refusal.NOT_STARTED: (21, "not-yet"),
    Refusal.OUTSIDE_HOURS: (21, "outside-hours"),
    Refusal.UNSUPPORTED: (41, "try-later"),
    Refusal.NO_CALLEE: (21, "no-callee"),
    Refusal.NO_LAST_CALLER: (21, "no-last-caller"),
    Refusal.EXTENSION_NEEDED: (28, "dial-extension"),
    Refusal.EXTENSION_UNKNOWN: (1, "unknown-extension"),
    Refusal.BLACKLISTED: (21, "not-authorised"),
    Refusal.SCANNING: (21, "not-authorised"),
    Refusal.NOT_GENUINE: (21, "not-authorised"),
    Refusal.UNVERIFIED: (41, "try-later"),
    Refusal.TRANSFERRED: (23, "transferred"),
    Refusal.TRANSFER_LOOP: (25, "unallocated-number"),
    Refusal.SHORT_NUMBER: (28, "invalid-number"),
    Refusal.MESSAGES_REFUSED: (21, "not-authorised"),
    Refusal.TEXT_HAS_NUMBER: (21, "text-refused"),
}
EXTENSION_DIGITS: Final = 4

_MAY_CALL: Final[frozenset[tuple[int, int]]] = frozenset({
    (Direction.UNSPECIFIED, Side.A), (Direction.UNSPECIFIED, Side.B),
    (Direction.BOTH, Side.A), (Direction.BOTH, Side.B),
    (Direction.A_TO_B, Side.A), (Direction.B_TO_A, Side.B),
})  # fmt: skip

_WITHHELD, _INVALID = Caller  # a member asked of its class goes through a property


def decide(
    number: str | None,
    caller: str | Caller,
    stale: bool,
    tenants: Sequence[str],
    entry: Entry | None,
    now_ms: int,
    missing: Refusal = Refusal.NOT_BOUND,
) -> Refusal | None:
    """Why the call is refused; None to connect it to the entry's callee.

    `stale`: the view is older than it may be. `tenants` own bindings in the number's block; `entry`
    is the caller's best on the number, and without one it is `missing`.
    """
    if number is None:
        return Refusal.DIALLED_INVALID
    if stale:  # first of what the view says: it may all be wrong
        return Refusal.VIEW_STALE
    if not tenants:
        return Refusal.BLOCK_FOREIGN
    if caller is _WITHHELD:
        return Refusal.CALLER_WITHHELD
    if caller is _INVALID:
        return Refusal.CALLER_INVALID
    if entry is None:
        return missing
    _, _, _, active, side, mode, direction, _, expire_ms, _, _, _, _, options = entry
    plain = mode == 1 and not options
    if not plain and not side:
        if mode == 1:
            return Refusal.NOT_BOUND  # a stranger's entry says only what the stranger hears
        side = Side.B  # of the other modes anyone may be B
    if not active:
        return Refusal.RELEASED
    if now_ms >= expire_ms:
        return Refusal.EXPIRED
    if (direction, side) not in _MAY_CALL:
        return Refusal.DIRECTION
    return None if plain else _restricted(entry, now_ms)


_MODES: Final = frozenset(Mode)


def _restricted(entry: Entry, now_ms: int) -> Refusal | None:
    """Why mode or options refuse the call. Unknown ones do: nothing is guessed."""
    options = options_of(entry)
    if entry.mode not in _MODES or options is None:
        return Refusal.UNSUPPORTED
    if entry.caller_side == Side.A and now_ms >= _callee_until_ms(entry, options):
        return Refusal.NO_LAST_CALLER if entry.mode == Mode.AXE else Refusal.NO_CALLEE
    if now_ms < options.start_ms:
        return Refusal.NOT_STARTED
    try:
        inside = options.open_at(now_ms)
    except LookupError:  # a zone that this machine has not
        return Refusal.UNSUPPORTED
    return None if inside else Refusal.OUTSIDE_HOURS


def _callee_until_ms(entry: Entry, options: Options) -> int:
    """Until when A reaches somebody, as far as the mode ends it before the binding does."""
    if not entry.box:
        return 0
    if entry.mode == Mode.AX:
        return options.callee_until_ms
    if entry.mode == Mode.AXE:  # view.with_last_caller
        return int.from_bytes(entry.box[:8]) + 1000 * options.callback_seconds
    return entry.expire_ms


def options_of(entry: Entry) -> Options | None:
    """The entry's options; None if this router does not know all of them."""
    try:
        return parse(entry.options)
    except ValueError:
        return None


def reached_by(entry: Entry) -> bytes:
    """In place of the tag of a caller who is no party: the extension that leads to the callee, or
    nothing where anyone reaches it."""
    options = options_of(entry)
    return options.extension.encode() if options is not None else b""


def back_seconds(decision: Decision) -> int:
    """How long the callee may call this caller back; 0: not at all. Mode AXE only."""
    entry = decision.entry
    if entry is None or entry.mode != 4 or entry.caller_side or decision.refusal is not None:
        return 0
    options = options_of(entry)
    return options.callback_seconds if options is not None else 0


class Treatment(NamedTuple):
    """What a refused caller meets. `play`: the call is answered, the announcement played."""

    cause: int
    announcement: str
    play: bool = False


_ENDED: Final = frozenset((Refusal.EXPIRED, Refusal.RELEASED))


def treatment(refusal: Refusal, entry: Entry | None) -> Treatment:
    """The tenant's own treatment where the entry names one, else the platform's."""
    options = (options_of(entry) if entry is not None and entry.options else None) or NONE
    if refusal is Refusal.NOT_BOUND and options.stranger:
        return Treatment(
            16 if options.stranger_play else 21, options.stranger, options.stranger_play
        )
    if refusal in _ENDED and options.after:
        return Treatment(21, options.after)
    return Treatment(*TREATMENT[refusal])
