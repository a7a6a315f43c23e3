"""Real Kamailio, real SIPp, a real router: both legs show the 700 number and nothing else."""

import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
from axbridge.router.v1 import call_pb2, events_pb2

from services.runtime.httpserver import Server
from tests.component import test_router
from tests.interop import telephones as sip
from tests.router_world import eventually

pod = test_router.pod
A, B, STRANGER = "13812345678", "13912345678", "18612345678"
MARK = "【号码保护】"


@pytest.fixture
def x(pod: SimpleNamespace) -> str:
    """A bound number that the router knows."""
    number: str = pod.world.number()
    route = pod.world.route(number, "b1", test_router.A, test_router.B)
    pod.binding.publish(route, world=pod.world)
    eventually(lambda: test_router.reason(pod, A, number) == "CONNECT", what="first connect")
    return number


def router(pod: SimpleNamespace) -> str:
    return f"127.0.0.1:{pod.http}"


def records(pod: SimpleNamespace, trunk: str = "127.0.0.1") -> list[events_pb2.CallRecorded]:
    """Those of calls that came through Kamailio."""
    return [record for record in pod.records() if record.trunk == trunk]


def call(
    switch: sip.Switch, x: str, caller: list[str], callee: list[str], *, by: str = A, to: str = B
) -> tuple[str, str]:
    """One call; all messages of the caller's telephone and of the callee's."""
    numbers = {"a": by, "b": to, "x": x}
    ringing = switch.telephone("callee", callee, numbers, port=switch.callee_port)
    sip.listening(switch.callee_port)
    asking = switch.telephone("caller", caller, numbers)
    return asking.done(), ringing.done()


def headers(messages: str, name: str) -> set[str]:
    return set(re.findall(rf"^{name}: *(.*?)\r?$", messages, re.MULTILINE))


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_a_call_rings_shows_only_x_and_becomes_a_record(
    pod: SimpleNamespace, x: str, tmp_path: Path, by: str
) -> None:
    caller, callee = sip.ringing(), sip.answers()
    if by == "caller":
        caller, callee = [*caller, *sip.hangs_up()], [*callee, *sip.is_hung_up_on()]
    else:
        caller = [*caller, *sip.is_hung_up_on()]
        callee = [*callee, sip.sends(sip.BYE_B, 'retrans="500"'), sip.waits("200")]
    with sip.kamailio(tmp_path, router(pod)) as switch:
        heard, seen = call(switch, x, caller, callee)
        assert A not in seen
        assert B not in heard
        assert f"INVITE sip:+86{B}@" in seen
        assert f'From: "{MARK}"<sip:{x}@axbridge.invalid>' in seen.replace('" <', '"<')
        assert "X-Anything" not in seen
        assert {c for c in headers(seen, "Contact") if B not in c} == {
            f"<sip:{x}@{switch.address}>"
        }

        def recorded() -> list[events_pb2.CallRecorded]:
            return [r for r in records(pod) if r.HasField("end_time")]

        record = eventually(recorded, 30, what="a record")[-1]
        assert " ERROR: " not in switch.child.tail(1000)
    assert record.outcome == events_pb2.CALL_OUTCOME_ANSWERED
    assert (record.number, record.q850_cause) == (x, 16)
    assert record.HasField("ring_time")
    side = call_pb2.RELEASE_SIDE_CALLER if by == "caller" else call_pb2.RELEASE_SIDE_CALLEE
    assert record.release_side == side


@pytest.mark.parametrize(("stranger", "status"), [("403", 403), ("404", 404)])
def test_a_stranger_is_refused_as_configured(
    pod: SimpleNamespace, x: str, tmp_path: Path, stranger: str, status: int
) -> None:
    with sip.kamailio(tmp_path, router(pod), AXB_STRANGER=stranger) as switch:
        heard = switch.telephone("caller", sip.refused(status), {"a": STRANGER, "x": x}).done()
        assert "Q.850;cause=21" in heard
        assert "X-Axbridge-Announcement: not-authorised" in heard
        foreign = "70099999999" + x[11:]
        switch.telephone("other", sip.refused(404), {"a": A, "x": foreign}).done()
        switch.telephone("digits", sip.refused(484), {"a": A, "x": "12"}).done()


def test_a_busy_callee_is_a_record_of_a_call_without_an_answer(
    pod: SimpleNamespace, x: str, tmp_path: Path
) -> None:
    with sip.kamailio(tmp_path, router(pod)) as switch:
        call(switch, x, sip.refused(486), sip.is_busy())
        record = eventually(lambda: records(pod), 30, what="a record")[-1]
    assert record.outcome == events_pb2.CALL_OUTCOME_UNANSWERED
    assert (record.q850_cause, record.release_side) == (17, call_pb2.RELEASE_SIDE_CALLEE)


def test_a_caller_who_gives_up_is_a_record_of_a_call_without_an_answer(
    pod: SimpleNamespace, x: str, tmp_path: Path
) -> None:
    with sip.kamailio(tmp_path, router(pod)) as switch:
        _, seen = call(switch, x, sip.gives_up(), sip.is_given_up_on())
        record = eventually(lambda: records(pod), 30, what="a record")[-1]
    assert A not in seen
    assert record.outcome == events_pb2.CALL_OUTCOME_UNANSWERED
    assert (record.q850_cause, record.release_side) == (16, call_pb2.RELEASE_SIDE_CALLER)


class Constant(BaseHTTPRequestHandler):
    """A router that connects everybody for two seconds."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        number = "700123456780001"
        connect = {"displayNumber": number, "mark": MARK, "maxDuration": "2s"}
        shown = {"uri": f"sip:{number}@axbridge.invalid", "display": f'"{MARK}"'}
        route = {"uri": f"sip:+86{B}@axbridge.invalid", "headers": {"from": shown}}
        answer = {"connect": connect, "version": "1.0", "routing": "serial", "routes": [route]}
        body = json.dumps(answer, ensure_ascii=False).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


def test_the_longest_talk_ends_on_both_legs_and_shows_only_x(tmp_path: Path) -> None:
    constant = Server("127.0.0.1:0", Constant)
    constant.start()
    try:
        with sip.kamailio(tmp_path, f"127.0.0.1:{constant.port}") as switch:
            caller = [*sip.ringing(), *sip.is_hung_up_on()]
            callee = [*sip.answers(), *sip.is_hung_up_on()]
            heard, seen = call(switch, "700123456780001", caller, callee)
    finally:
        constant.stop()
    assert A not in seen
    assert B not in heard


def test_another_platforms_number_is_sent_on_once(
    pod: SimpleNamespace, x: str, tmp_path: Path
) -> None:
    foreign = "70088888888" + x[11:]
    with sip.kamailio(tmp_path, router(pod)) as switch:
        heard = switch.telephone("caller", sip.refused(302), {"a": A, "x": foreign}).done()
        assert any(f"sip:{foreign}@other.example:5070" in c for c in headers(heard, "Contact"))
        assert headers(heard, "X-Axbridge-Transferred-By") == {"own"}
        back = {"a": A, "x": foreign, "more": "X-Axbridge-Transferred-By: third,own\n"}
        switch.telephone("back", sip.refused(480), back).done()


def test_where_the_number_cannot_be_taken_out_nobody_is_rung(
    pod: SimpleNamespace, x: str, tmp_path: Path
) -> None:
    """Tags and Call-ID are one for both legs: they cannot be changed."""
    numbers = {"a": A, "x": x}
    with sip.kamailio(tmp_path, router(pod)) as switch:
        steps = [step.replace(";tag=[call_number]", ";tag={a}") for step in sip.refused(503)]
        switch.telephone("tag", steps, numbers).done()
        assert "was not sent" in switch.child.tail(1000)
        switch.telephone("id", sip.refused(400), numbers, "-cid_str", f"{A}-%u").done()


def test_without_a_router_nobody_is_connected(tmp_path: Path) -> None:
    with sip.kamailio(tmp_path, f"127.0.0.1:{sip.udp_port()}") as switch:
        heard = switch.telephone(
            "caller", sip.refused(503), {"a": A, "x": "7001" + "0" * 11}
        ).done()
    assert "Retry-After: 1" in heard


def test_redirect_mode_names_the_callee_to_the_switch(
    pod: SimpleNamespace, x: str, tmp_path: Path
) -> None:
    with sip.kamailio(tmp_path, router(pod), AXB_MODE="redirect") as switch:
        heard = switch.telephone("caller", sip.refused(302), {"a": A, "x": x}).done()
    assert any(f"sip:+86{B}@" in contact for contact in headers(heard, "Contact"))
    assert f"X-Axbridge-Display-Number: {x}" in heard
