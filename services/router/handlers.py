"""The router's use cases. Pure: the world comes in as ports.

Refuses to answer what it could not record. Invariant: the recorder has returned before a decision
leaves, and a decision says connect only if its callee was opened.
"""

from collections.abc import Callable

from services.router.dialplan import is_short, parse_caller, parse_dialled
from services.router.domain import (
    MARK,
    Call,
    Decision,
    Entry,
    LastCaller,
    Mode,
    Progress,
    Refusal,
    Transfer,
)
from services.router.ports import Found, KeyUnavailable, Opener, Platforms, Recorder, Routes
from services.router.rule import back_seconds, decide, options_of, reached_by
from services.router.scanning import MISSES, Scanning
from services.router.texts import Text, spells, text_of
from services.runtime.clock import Clock

_new = tuple.__new__  # without the detour over a named tuple's own: a third of its time
_OF_EXTENSIONS = frozenset(
    (Refusal.EXTENSION_NEEDED, Refusal.EXTENSION_UNKNOWN, Refusal.NO_LAST_CALLER)
)
_AXE = Mode.AXE  # a member asked of its class on each call goes through a property
_FOREIGN, _INVALID = Refusal.BLOCK_FOREIGN, Refusal.DIALLED_INVALID
# A number has one holder, so a call is sent on once; more only while directories disagree.
_MOST_TRANSFERS = 3
_NOTHING = Found((), "", b"", None)
_NOT_BOUND, _NEEDED, _UNKNOWN = (
    Refusal.NOT_BOUND, Refusal.EXTENSION_NEEDED, Refusal.EXTENSION_UNKNOWN,
)  # fmt: skip


def _reaching(entry: Entry, tag: bytes, caller: str) -> bytes:
    """What the callee's copy is bound to, of whoever may reach it."""
    if not entry.caller_side:
        return reached_by(entry)
    return caller.encode() if entry.mode == _AXE else tag


class Router:
    """Safe to call from many threads if its ports are."""

    def __init__(
        self,
        routes: Routes,
        opener: Opener,
        recorder: Recorder,
        clock: Clock,
        max_age_ms: int,
        verify: Callable[[Decision], Decision] | None = None,
        platforms: Platforms | None = None,
        scanning: Scanning | None = None,
    ) -> None:
        self._find, self._fresh_ms = routes.find, routes.fresh_ms
        self._routes = routes
        self._open, self._opener = opener.callee, opener
        self._called = recorder.called
        self._decided, self._progressed = recorder.decided, recorder.progressed
        self._messaged = recorder.messaged
        self._now = clock.epoch_ms
        self._max_age_ms = max_age_ms
        self._verify, self._platforms = verify, platforms
        self._scanning = scanning or Scanning(limit=0)

    def route(self, call: Call) -> Decision:
        """Decides, records, answers.

        Raises:
            ResourceExhausted: JOURNAL_FULL.
        """
        decision = self._judged(call)
        self._keep_last_caller(decision)
        self._decided(decision)
        return decision

    def message(self, call: Call, body: str) -> tuple[Decision, Text]:
        """Decides about a short message as about a call, and how its text goes on.

        Raises:
            ResourceExhausted: JOURNAL_FULL.
        """
        decision = self._judged(call, body)
        entry, text = decision.entry, text_of(body)
        if decision.refusal is None and entry is not None:
            options = options_of(entry)
            if options is not None and options.mark:
                text = text_of(MARK + body)  # R3
        self._messaged(decision, text)
        return decision, text

    def _judged(self, call: Call, body: str | None = None) -> Decision:
        """The decision about a call, or a message of this text, to be recorded."""
        decision = self._stopped(call) if self._scanning.stopped else None
        if decision is None:
            decision = self.explain(call)
            if body is not None:
                decision = _with_text(decision, body)
            if self._verify is not None:
                decision = self._verify(decision)
            if decision.refusal is not None and decision.refusal in MISSES:
                self._scanning.missed(call, decision.caller, decision.time_ms)
        return decision

    def _stopped(self, call: Call) -> Decision | None:
        """The refusal of a caller who dials at random, without a look-up; None for all others."""
        caller, now = parse_caller(call.caller), self._now()
        if type(caller) is not str or not self._scanning.stops(call, caller, now):
            return None
        number, age_ms = parse_dialled(call.dialled) or "", max(0, now - self._fresh_ms())
        return Decision(call, now, age_ms, number, "", None, Refusal.SCANNING, "", caller, b"")

    def explain(self, call: Call, at_ms: int | None = None) -> Decision:
        """Decides as of a time, default now. Nothing is recorded: connect nobody by it."""
        _, _, calling, dialled, _, _, extension = call
        number, caller = parse_dialled(dialled), parse_caller(calling)
        e164 = caller if type(caller) is str else ""
        fresh_ms = self._fresh_ms()  # before the look-up: no younger than what that finds
        found = _NOTHING if number is None else self._find(number, e164, extension)
        now = self._now()  # after it: an entry is judged by the time it is used
        age_ms = now - fresh_ms
        if age_ms < 0:
            age_ms = 0
        tenants, tenant, tag, entry, extensions = found
        missing = (_UNKNOWN if extension else _NEEDED) if extensions else _NOT_BOUND
        if at_ms is not None:
            now = at_ms
        stale = age_ms > self._max_age_ms
        refusal = decide(number, caller, stale, tenants, entry, now, missing)
        callee, transfer = "", None
        if refusal is _FOREIGN or refusal is _INVALID:
            refusal, transfer = self._elsewhere(refusal, call, number)
        if refusal is None and number is not None and entry is not None:
            try:
                callee = self._open(number, entry, _reaching(entry, tag, e164))
            except KeyUnavailable:
                refusal = Refusal.KEY_UNAVAILABLE
            view = self._routes
            if callee and tenant in view.denying and view.denied(number, tenant, tag, callee, now):
                refusal, callee = Refusal.BLACKLISTED, ""
        return _new(Decision, (
            call, now, age_ms, number or "", tenant, entry, refusal, callee, e164, tag, 0, transfer,
        ))  # fmt: skip

    def _elsewhere(
        self, refusal: Refusal, call: Call, number: str | None
    ) -> tuple[Refusal, Transfer | None]:
        """Whether what is not ours is another platform's (R2), or the network's own."""
        if number is None:
            return Refusal.SHORT_NUMBER if is_short(call.dialled) else refusal, None
        holder = self._platforms.holder(number) if self._platforms is not None else None
        if holder is None or self._platforms is None:
            return refusal, None
        own = self._platforms.own().id
        if holder.id == own:
            return refusal, None
        if own in call.transferred_by or len(call.transferred_by) >= _MOST_TRANSFERS:
            return Refusal.TRANSFER_LOOP, None
        path = (*call.transferred_by, own)
        return Refusal.TRANSFERRED, Transfer(holder.id, holder.endpoint, path)

    def _keep_last_caller(self, decision: Decision) -> None:
        """Before the call's own record: after a crash in between, A may reach somebody whose call
        was not connected, and never misses one that was."""
        call_back = back_seconds(decision)
        if not call_back:
            return
        entry, number, now = decision.entry, decision.number, decision.time_ms
        assert entry is not None
        try:
            box = self._opener.sealed(number, entry, decision.callee, decision.caller, now)
        except KeyUnavailable:  # the day of the key is over: the binding with it
            return
        self._called(LastCaller(
            entry.tenant, entry.binding, number, now, now + 1000 * call_back, entry.key_id, box
        ))  # fmt: skip

    def report(self, progress: Progress) -> None:
        """Records what a switch says of a leg. Repeats are harmless: the record's fold drops them.

        Raises:
            ResourceExhausted: JOURNAL_FULL.
        """
        self._progressed(progress, self._now())


def _with_text(decision: Decision, body: str) -> Decision:
    """What a message's own rules make of the decision."""
    refusal, entry = decision.refusal, decision.entry
    if refusal in _OF_EXTENSIONS:
        refusal = Refusal.MESSAGES_REFUSED
    elif refusal is None and entry is not None:
        options = options_of(entry)
        if options is None or not options.sms or entry.mode == _AXE:  # no message dials digits
            refusal = Refusal.MESSAGES_REFUSED
        elif spells(body, decision.caller) or spells(body, decision.callee):
            refusal = Refusal.TEXT_HAS_NUMBER
    return (
        decision if refusal is decision.refusal else decision._replace(refusal=refusal, callee="")
    )
