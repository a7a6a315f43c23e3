"""What binding publishes is what the router decides by: options and modes through all layers."""

from dataclasses import replace

import pytest

from services.binding import modes
from services.binding.blacklist import Target
from services.binding.domain import Answered, Binding, Direction, Mode, Reason
from services.router.rule import treatment
from services.router.translate import response_from
from services.runtime.options import Options, window
from services.runtime.phone import PhoneNumber
from services.runtime.sm import Suite
from tests.chain import A, B, C, Chain, D
from tests.unit.binding.memory import POOL, binding, terms
from tests.unit.binding.memory_blacklist import entry

X = "700100000010001"


def pair(chain: Chain, options: Options, direction: Direction = Direction.BOTH) -> Binding:
    return binding(
        chain.clock, "b1", tag_a=chain.tag(A), tag_b=chain.tag(B), exclusive=True,
        terms=terms(chain.clock, options=options, direction=direction),
    )  # fmt: skip


def test_a_binding_without_options_is_as_ever() -> None:
    chain = Chain()
    made = pair(chain, Options())
    chain.bind(made, A, B)
    assert chain.answer(A, X) == B.e164
    assert chain.answer(B, X) == A.e164
    assert chain.answer(C, X) == "NOT_BOUND"


def test_start_hours_and_end_are_kept_by_the_routers_clock() -> None:
    chain = Chain()
    now = chain.clock.now()
    assert (now.hour, now.isoweekday()) == (0, 4)  # Thursday, 08:00 in Shanghai
    hours = Options(
        start_ms=chain.clock.epoch_ms() + 120_000, zone="Asia/Shanghai",
        windows=(window("4", 8 * 60, 8 * 60 + 30),), after="order-over",
    )  # fmt: skip
    made = pair(chain, hours)
    copies = chain.bind(made, A, B)
    assert chain.answer(A, X) == "NOT_STARTED"
    chain.wait(minutes=2)
    assert chain.answer(A, X) == B.e164
    assert chain.answer(C, X) == "NOT_BOUND"
    chain.wait(minutes=28)
    assert chain.answer(B, X) == "OUTSIDE_HOURS"
    chain.wait(minutes=30)
    assert chain.answer(B, X) == "EXPIRED"
    decision = chain.call(B, X)
    assert decision.refusal is not None
    assert treatment(decision.refusal, decision.entry).announcement == "order-over"
    chain.again(made, copies, made.released(chain.clock.epoch_ms(), Reason.EXPIRED))
    assert response_from(chain.call(A, X)).refuse.announcement == "order-over"


def test_the_switch_is_told_what_was_chosen() -> None:
    chain = Chain()
    made = pair(
        chain,
        Options(
            ring_seconds=25, recording=("a1", "a2", "", ""), mark=False, stranger="closed",
            stranger_play=True,
        ),
        Direction.A_TO_B,
    )  # fmt: skip
    chain.bind(made, A, B)
    connect = response_from(chain.call(A, X)).connect
    assert connect.callee.e164 == B.e164
    assert (connect.ring_timeout.seconds, connect.mark) == (25, "")
    assert (connect.caller_announcement, connect.callee_announcement) == ("a1", "a2")
    assert chain.answer(B, X) == "DIRECTION"
    stranger = response_from(chain.call(C, X)).refuse
    assert (stranger.q850_cause, stranger.announcement) == (16, "closed")


def test_a_renewed_binding_connects_past_its_first_end() -> None:
    chain = Chain()
    made = pair(chain, Options(sliding_seconds=3600))
    copies = chain.bind(made, A, B)
    chain.wait(minutes=59)
    later = made.renewed(chain.clock.epoch_ms(), chain.clock.epoch_ms())
    chain.again(made, copies, later)
    chain.wait(minutes=30)
    assert chain.answer(A, X) == B.e164
    chain.wait(minutes=30)
    assert chain.answer(A, X) == "EXPIRED"


def test_options_cannot_be_taken_from_a_route() -> None:
    """A forger of the topic strips the hours off a route: its callee does not open any more."""
    chain = Chain()
    made = pair(chain, Options(start_ms=chain.clock.epoch_ms() + 120_000))
    copies = chain.vault.seal_new(made, A, B, chain.route_seal(made))
    chain.publish(replace(made, terms=replace(made.terms, options=Options())), copies)
    assert chain.answer(A, X) == "KEY_UNAVAILABLE"


@pytest.mark.parametrize("suite", ["aes", "sm"])
@pytest.mark.parametrize("pool", ["", POOL])
def test_what_is_listed_is_refused_at_call_until_it_ends(suite: Suite, pool: str) -> None:
    chain = Chain(suite)
    chain.bind(pair(chain, Options()), A, B)
    now = chain.clock.epoch_ms()
    one_way = entry(now, "e1", Target(chain.tag(A), chain.tag(B), pool), 60_000)
    chain.denials(chain.listed.register(one_way).state)
    assert chain.answer(A, X) == "BLACKLISTED"
    assert chain.answer(B, X) == A.e164
    chain.wait(minutes=1)
    assert chain.answer(A, X) == B.e164
    caller = entry(now, "e2", Target(chain.tag(B), b"", pool), 600_000)
    chain.denials(chain.listed.register(caller).state)
    assert chain.answer(B, X) == "BLACKLISTED"
    chain.denials(chain.listed.register(caller.ended(now + 90_000)).state)
    assert chain.answer(B, X) == A.e164
    elsewhere = Target(chain.tag(A), b"", "tenants/didi/pools/other")
    chain.denials(chain.listed.register(entry(now, "e3", elsewhere, 600_000)).state)
    assert chain.answer(A, X) == B.e164


def test_anyone_reaches_a_of_ax_and_a_a_named_callee_for_a_minute() -> None:
    chain = Chain()
    made = binding(
        chain.clock, "b1", tag_a=chain.tag(A), tag_b=b"", terms=terms(chain.clock, mode=Mode.AX)
    )  # fmt: skip
    copies = chain.bind(made, A)
    assert [chain.answer(who, X) for who in (B, C)] == [A.e164, A.e164]
    assert chain.answer("anonymous", X) == "CALLER_WITHHELD"
    assert chain.answer(A, X) == "NO_CALLEE"
    request = Answered("r", b"h" * 16, chain.clock.epoch_ms(), 0)
    named = modes.named(made, chain.tag(B), request)
    copies = chain.again(made, copies, named, B)
    assert chain.answer(A, X) == B.e164
    assert [chain.answer(who, X) for who in (B, C)] == [A.e164, A.e164]
    chain.wait(seconds=60)
    assert chain.answer(A, X) == "NO_CALLEE"
    gone = modes.unnamed(named, chain.clock.epoch_ms())
    copies = chain.again(named, copies, gone)
    assert copies.callee_b is None
    assert chain.evidence(copies) == A.e164.encode()
    assert (chain.answer(A, X), chain.answer(B, X)) == ("NO_CALLEE", A.e164)
    pair = modes.upgraded(gone, gone.version, chain.tag(C), request)
    copies = chain.again(gone, copies, pair, C)
    assert chain.evidence(copies) == f"{A.e164} {C.e164}".encode()
    assert [chain.answer(who, X) for who in (A, B, C)] == [C.e164, "NOT_BOUND", A.e164]


def test_each_party_of_axyb_dials_its_own_number_and_is_shown_the_others() -> None:
    chain, y = Chain(), "700100000019999"
    made = binding(
        chain.clock, "b1", tag_a=chain.tag(A), tag_b=chain.tag(B), second_epoch=9,
        terms=terms(chain.clock, mode=Mode.AXYB, options=Options(numbers=f"{X}-{y}")),
    )  # fmt: skip
    copies = chain.bind(made, A, B)
    shown = [response_from(chain.call(*call)).connect for call in ((A, X), (B, y))]
    assert [(each.callee.e164, each.display_number) for each in shown] == [
        (B.e164, y), (A.e164, X),
    ]  # fmt: skip
    for call in ((A, y), (B, X), (C, X), (C, y)):
        assert chain.answer(*call) in ("NOT_BOUND", "BLOCK_FOREIGN")
    chain.again(made, copies, made.released(chain.clock.epoch_ms(), Reason.REQUESTED))
    assert [chain.answer(A, X), chain.answer(B, y)] == ["RELEASED", "RELEASED"]


def test_the_numbers_of_axyb_cannot_be_swapped_on_the_way() -> None:
    chain, y, z = Chain(), "700100000019999", "700100000018888"
    made = binding(
        chain.clock, "b1", tag_a=chain.tag(A), tag_b=chain.tag(B),
        terms=terms(chain.clock, mode=Mode.AXYB, options=Options(numbers=f"{X}-{y}")),
    )  # fmt: skip
    forged = replace(made, terms=replace(made.terms, options=Options(numbers=f"{X}-{z}")))
    chain.publish(forged, chain.vault.seal_new(made, A, B, chain.route_seal(made)))
    assert [chain.answer(A, X), chain.answer(B, z)] == ["KEY_UNAVAILABLE", "KEY_UNAVAILABLE"]


def extended(chain: Chain, identity: str, who: PhoneNumber, extension: str) -> Binding:
    return binding(
        chain.clock, identity, tag_a=chain.tag(who), tag_b=b"", exclusive=False,
        terms=terms(
            chain.clock, mode=Mode.AXE, options=Options(extension=extension, sms=False)
        ),
    )  # fmt: skip


def test_an_extension_leads_to_its_a() -> None:
    chain = Chain()
    one, two = extended(chain, "b1", A, "1"), extended(chain, "b2", B, "0002")
    copies = chain.bind(one, A)
    chain.bind(two, B)
    assert chain.answer(C, X) == "EXTENSION_NEEDED"
    assert [chain.answer(C, X, e) for e in ("1", "0002", "2")] == [
        A.e164, B.e164, "EXTENSION_UNKNOWN",
    ]  # fmt: skip
    assert chain.answer(B, X, "1") == A.e164
    assert chain.answer(A, X) == "NO_LAST_CALLER"
    chain.again(one, copies, one.released(chain.clock.epoch_ms(), Reason.REQUESTED))
    assert chain.answer(C, X, "1") == "RELEASED"
    assert chain.answer(C, X, "0002") == B.e164


def test_a_calls_back_whoever_called_last_for_a_time() -> None:
    chain = Chain()
    made = extended(chain, "b1", A, "1")
    options = replace(made.terms.options, callback_seconds=600)
    made = replace(made, terms=replace(made.terms, options=options))
    copies = chain.bind(made, A)
    assert chain.answer(A, X) == "NO_LAST_CALLER"
    for who in (C, B):
        assert chain.answer(who, X, "1") == A.e164
        assert chain.answer(A, X) == who.e164
        chain.wait(seconds=1)
    assert chain.answer(C, X, "2") == "EXTENSION_UNKNOWN"  # nobody was reached
    chain.wait(seconds=598)
    assert chain.answer(A, X) == B.e164
    later = replace(made, version=2, terms=replace(made.terms, expire_ms=made.terms.expire_ms + 1))
    chain.again(made, copies, later)
    assert chain.answer(A, X) == B.e164  # another version, the same last caller
    chain.wait(seconds=1)
    assert chain.answer(A, X) == "NO_LAST_CALLER"


def test_a_last_caller_is_reached_by_its_a_alone() -> None:
    chain = Chain()
    made = extended(chain, "b1", A, "1")
    options = replace(made.terms.options, callback_seconds=600)
    made = replace(made, terms=replace(made.terms, options=options))
    chain.bind(made, A)
    chain.answer(C, X, "1")
    stolen = replace(made, version=2, tag_a=chain.tag(D))
    chain.bind(stolen, D)
    assert chain.answer(D, X) == "KEY_UNAVAILABLE"


def test_an_extension_cannot_be_moved_to_another_a() -> None:
    chain = Chain()
    one, forged = extended(chain, "b1", A, "1"), extended(chain, "b1", A, "2")
    chain.publish(forged, chain.vault.seal_new(one, A, None, chain.route_seal(one)))
    assert chain.answer(C, X, "2") == "KEY_UNAVAILABLE"
