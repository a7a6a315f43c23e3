"""What a platform may see of an event, and what it may not."""

import base64

import pytest

from services.router.pushevents import Renderer, decode
from services.runtime.errors import Malformed
from services.runtime.keyring import MemoryKeyRing
from services.runtime.record import Record
from services.runtime.sealing import PurgeSealer
from tests.unit.router.pushes import NUMBER, RING, TENANT, bound, progressed, routed


def test_an_event_is_shown_with_its_order_and_without_what_is_sealed() -> None:
    about = bound("b1")
    item = decode(about)
    assert item is not None
    shown = Renderer(PurgeSealer(RING))(item, 7, about.value)
    assert (shown["id"], shown["type"], shown["sequence"]) == ("b1-1", "BindingCreated", 7)
    assert shown["binding"] == f"tenants/{TENANT}/bindings/b1"
    assert shown["order_id"] == "order-b1"
    assert base64.b64decode(shown["customer_data"]) == b"\x00data"
    assert shown["data"]["fact"]["number"] == NUMBER
    assert "secrets" not in shown["data"]


def test_a_call_is_shown_with_the_order_of_its_binding() -> None:
    item = decode(routed("c1", "b1"))
    assert item is not None
    assert (item.tenant, item.binding, item.call) == (TENANT, "b1", "cmcc/c1")
    shown = Renderer(PurgeSealer(RING))(item, 1, bound("b1").value)
    assert shown["order_id"] == "order-b1"
    assert "secrets" not in shown["data"]


def test_without_the_key_the_order_is_left_out() -> None:
    item = decode(routed("c1", "b1"))
    assert item is not None
    shown = Renderer(PurgeSealer(MemoryKeyRing()))(item, 1, bound("b1").value)
    assert "order_id" not in shown
    assert "order_id" not in Renderer(PurgeSealer(RING))(item, 1, None)


def test_a_report_on_a_leg_names_its_call_only() -> None:
    item = decode(progressed("c1", 1))
    assert item is not None
    assert (item.tenant, item.binding, item.call) == ("", "", "cmcc/c1")


def test_other_types_are_passed_over_and_broken_ones_parked() -> None:
    one = bound("b1")
    other = [(n, b"axbridge.binding.v1.Other" if n == "ce_type" else v) for n, v in one.headers]
    assert decode(Record(one.topic, 0, 1, one.key, one.value, other, 0)) is None
    with pytest.raises(Malformed, match="PUSH_EVENT_MALFORMED"):
        decode(Record(one.topic, 0, 1, one.key, b"\xff", one.headers, 0))
