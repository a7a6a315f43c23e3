"""The main job on a fresh local cluster, told step by step in tables.

Two people are bound, talk, and never see each other's number; a stranger is refused; one order
expires, one is released; the audit log proves all of it. Refuses to print a success it did not
check: every step compares what it got with what it must be.
"""

import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from axbridge.binding.v1 import binding_pb2
from axbridge.router.v1 import call_pb2, router_service_pb2
from rich.console import Console
from rich.table import Table

from deploy.local.clients import Auditor, Platform, Pools, Switch
from deploy.local.cluster import Cluster
from deploy.local.trips import mobile
from deploy.local.waiting import eventually
from services.audit.compare import compare_with_topics
from services.audit.verify import verify_folder

TENANT: Final = "citytaxi"
BLOCK: Final = "70012345678"
_SHORT_LIFE: Final = timedelta(seconds=4)


class DemoFailed(Exception):
    """A step did not give what it must."""


class Demo:
    """One telling; `run` returns once everything was shown and checked."""

    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._rider, self._driver, self._stranger = (mobile(f"demo/{who}") for who in "abc")
        self._seen = Table("who", "dials", "reaches", "and sees", title="What each party saw")
        self._begun = time.monotonic()

    def run(self) -> None:
        """Raises DemoFailed with the step that went wrong."""
        addresses = self._cluster.addresses
        with (
            Pools(addresses["allocator"], TENANT) as pools,
            Platform(addresses["binding"], TENANT) as platform,
            Switch(self._cluster.routers[0]) as switch,
            Auditor(addresses["audit"]) as auditor,
        ):
            pools.create("rides")
            pools.register(BLOCK, "rides")
            self._say(f"block {BLOCK} registered: {pools.statistics('rides').total} numbers")
            trip = platform.bind("rides", self._rider, self._driver, "trip-1", max_call_minutes=30)
            short = platform.bind(
                "rides", mobile("demo/d"), mobile("demo/e"), "trip-2", life=_SHORT_LIFE
            )
            number = trip.number.removeprefix("numbers/")
            self._say(f"trip-1 bound through {number}, trip-2 through {_digits(short)}")
            self._talk(switch, trip)
            self._refuse(switch, "a stranger", self._stranger, number, "NOT_BOUND")
            self._refuse(switch, "somebody withheld", "anonymous", number, "CALLER_WITHHELD")
            self._expire(switch, platform, short)
            platform.release(trip.name)
            self._refuse(switch, "the rider, later", self._rider, number, "RELEASED")
            self._console.print(self._seen)
            self._story(auditor, trip)
            self._verify(auditor)

    def _talk(self, switch: Switch, trip: binding_pb2.Binding) -> None:
        number = _digits(trip)
        pairs = (
            ("the rider", self._rider, "the driver", self._driver),
            ("the driver", self._driver, "the rider", self._rider),
        )
        for who, caller, whom, callee in pairs:
            call_id = f"demo-{who.split()[1]}"
            answer = _settled(switch, caller, number, "connect", call_id)
            _check(answer.connect.callee.e164 == callee, f"{who} reaches {whom}")
            _check(answer.connect.display_number == number, f"{whom} sees the 700 number")
            switch.talk(call_id, seconds=42)
            self._seen.add_row(who, number, whom, f"{number} {answer.connect.mark}")

    def _refuse(self, switch: Switch, who: str, caller: str, number: str, reason: str) -> None:
        self._refused(who, number, _settled(switch, caller, number, "refuse"), {reason})

    def _refused(
        self,
        who: str,
        number: str,
        answer: router_service_pb2.RouteCallResponse,
        reasons: set[str],
    ) -> None:
        got = call_pb2.RefusalReason.Name(answer.refuse.reason).removeprefix("REFUSAL_REASON_")
        _check(got in reasons, f"{who} is refused with {' or '.join(sorted(reasons))}, not {got}")
        said = f"announcement {answer.refuse.announcement}, Q.850 {answer.refuse.q850_cause}"
        self._seen.add_row(who, number, f"nobody ({got})", said)

    def _expire(self, switch: Switch, platform: Platform, short: binding_pb2.Binding) -> None:
        rider, number = mobile("demo/d"), _digits(short)
        _settled(switch, rider, number, "connect")
        left = short.expire_time.ToNanoseconds() / 1e9 - time.time()
        self._say(f"trip-2 expires in {left:.1f} s (this demo lowers the one-minute minimum)")
        eventually(lambda: time.time() * 1e9 >= short.expire_time.ToNanoseconds(), 30)
        answer = switch.call(rider, number)
        _check(answer.WhichOneof("decision") == "refuse", "an expired binding is refused")
        # At the exact time by the router's clock, or a moment later by the sweeper's release.
        self._refused("trip-2's rider", number, answer, {"EXPIRED", "RELEASED"})
        eventually(
            lambda: platform.get(short.name).state == binding_pb2.BINDING_STATE_RELEASED,
            10,
            what="the sweeper",
        )

    def _story(self, auditor: Auditor, trip: binding_pb2.Binding) -> None:
        binding = trip.name.rsplit("/", 1)[1]
        wanted = ["BindingCreated", "CallRouted", "CallRecorded", "CallRefused", "BindingReleased"]
        eventually(
            lambda: set(wanted) <= {_short(e.entry.type) for e in auditor.query(binding=binding)},
            15,
            what="the audit index",
        )
        table = Table("leaf", "time", "event", "topic", title="What the auditor reads of trip-1")
        for event in auditor.query(binding=binding):
            moment = event.entry.time.ToDatetime().strftime("%H:%M:%S.%f")[:-3]
            table.add_row(
                str(event.leaf_index), moment, _short(event.entry.type), event.entry.topic
            )
        self._console.print(table)
        by_order = auditor.query(tenant=TENANT, order_id="trip-1")
        _check(bool(by_order), "events are found by order")

    def _verify(self, auditor: Auditor) -> None:
        folder, vkey = self._cluster.log, self._cluster.vkey
        bootstrap = self._cluster.brokers.kafka.bootstrap
        eventually(
            lambda: not compare_with_topics(folder, vkey, bootstrap), 20, what="the sequencer"
        )
        verdict = verify_folder(folder, vkey)
        _check(verdict.ok, str(verdict))
        self._console.print(auditor.checkpoint().checkpoint.strip(), style="dim", highlight=False)
        self._say(f"audit: {verdict}; every event on Kafka is exactly one leaf")

    def _say(self, text: str) -> None:
        seconds = time.monotonic() - self._begun
        self._console.print(f"[dim]{seconds:5.1f} s[/dim]  {text}", highlight=False)


def run(folder: Path, console: Console) -> None:
    """Starts a fresh cluster, tells the story, stops everything."""
    begun = time.monotonic()
    lowered = {"BINDING_MINIMUM_LIFE_SECONDS": "1"}
    with Cluster(folder, environment=lowered).wipe() as cluster:
        console.print(f"{len(cluster.children)} processes up in {time.monotonic() - begun:.1f} s")
        Demo(cluster, console).run()


def _settled(
    switch: Switch, caller: str, number: str, decision: str, call_id: str | None = None
) -> router_service_pb2.RouteCallResponse:
    """The answer once the router's view has caught up with what was just written."""
    answers: list[router_service_pb2.RouteCallResponse] = []

    def asked() -> bool:
        answers.append(switch.call(caller, number, call_id))
        return answers[-1].WhichOneof("decision") == decision

    eventually(asked, 5, what=f"a router that answers {decision}")
    return answers[-1]


def _digits(binding: binding_pb2.Binding) -> str:
    return binding.number.removeprefix("numbers/")


def _short(kind: str) -> str:
    return kind.rsplit(".", 1)[1]


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(what)
