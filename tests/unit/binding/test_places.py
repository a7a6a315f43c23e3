"""Where a binding is kept: who is on its number, and what its mode says to the functions."""

from dataclasses import replace

from services.binding.domain import Answered, Binding, Mode
from services.binding.places import Places, mode, party_b
from services.runtime.cell import Cell
from services.runtime.clock import ManualClock
from services.runtime.options import Options
from tests.unit.binding.memory import TENANT, binding, terms

PLACES = Places(Cell("redis://127.0.0.1:1", "binding", "c1", ""))


def made(kind: Mode, tag_b: bytes, options: Options) -> Binding:
    clock = ManualClock()
    return binding(clock, "b1", tag_b=tag_b, terms=terms(clock, mode=kind, options=options))


def test_a_temporary_callee_is_in_no_index() -> None:
    ax = made(Mode.AX, b"y" * 16, Options(callee_until_ms=1))
    assert (party_b(ax), mode(ax)) == (b"", "AX:")
    keys = PLACES.of(ax, "")
    assert not any((b"y" * 16).hex() in key for key in keys)
    assert keys[5] == keys[6] == PLACES.index(TENANT, "party", ax.tag_a.hex())
    assert keys[4] == keys[3]  # without an order


def test_both_parties_of_axb_are_in_their_index() -> None:
    axb = made(Mode.AXB, b"y" * 16, Options())
    assert (party_b(axb), mode(axb)) == (b"y" * 16, "")
    keys = PLACES.of(axb, "0f")
    assert keys[4] == PLACES.index(TENANT, "order", "0f")
    assert keys[6] == PLACES.index(TENANT, "party", (b"y" * 16).hex())


def test_an_extension_stands_in_the_mode() -> None:
    assert mode(made(Mode.AXE, b"", Options(extension="007", sms=False))) == "AXE:007"


def test_requests_of_updates_are_answered_for_a_day_and_the_first_as_long_as_the_binding() -> None:
    axb = made(Mode.AXB, b"y" * 16, Options())
    first = axb.requests[0]
    later = Answered("r2", b"u" * 16, first.time_ms + 10, 2)
    both = replace(axb, requests=(first, later))
    day = 24 * 3600 * 1000
    keys, args = PLACES.answers(both, later.time_ms + day - 1)
    assert keys == [PLACES.request(TENANT, each.request_id) for each in both.requests]
    assert args == [first.body_hash, 0, later.body_hash, 1]
    assert PLACES.answers(both, later.time_ms + day + 1)[0] == keys[:1]
