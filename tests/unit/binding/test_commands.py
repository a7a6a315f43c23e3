"""The text that a request is known again by."""

import uuid
from dataclasses import replace

from services.binding.commands import Create, Update
from services.runtime.clock import ManualClock
from services.runtime.options import Options
from services.runtime.phone import PhoneNumber
from tests.unit.binding.memory import TENANT, terms

A, B, C = (PhoneNumber(f"+8613{n}12345678") for n in (5, 6, 7))


def test_whatever_a_repetition_must_not_change_is_in_the_text() -> None:
    clock = ManualClock()
    wish = Create(TENANT, str(uuid.uuid4()), A, B, terms(clock))
    t = wish.terms
    others = [
        replace(wish, a=C), replace(wish, b=C), replace(wish, life_ms=60_000),
        replace(wish, terms=replace(t, pool="p")), replace(wish, terms=replace(t, order_id="o")),
        replace(wish, terms=replace(t, industry_id="i")),
        replace(wish, terms=replace(t, expire_ms=1)),
        replace(wish, terms=replace(t, max_call_minutes=1)),
        replace(wish, terms=replace(t, customer_data=b"")),
        replace(wish, terms=replace(t, options=Options(sms=False))),
    ]  # fmt: skip
    assert len({each.canonical() for each in [wish, *others]}) == len(others) + 1
    assert replace(wish, request_id="another").canonical() == wish.canonical()


def test_a_request_without_options_keeps_the_text_it_has_always_had() -> None:
    wish = Create(TENANT, "r", A, B, terms(ManualClock(), expire_ms=5, customer_data=b"\x01"))
    assert wish.canonical().split("\x1f") == [
        "create", wish.terms.pool, A.e164, B.e164, "order-1", "taxi", "5", "1", "0", "01",
    ]  # fmt: skip
    assert Update(TENANT, "b", "r", 2, 5).canonical() == "update\x1fb\x1f2\x1f5"
