"""The closed set of metrics: one table, nothing is counted that does not stand in it.

To add a metric, add a member to `Name` with a comment on what to read from it; the process's
service stands in front of the name (`outbox_age_seconds` becomes `<service>_outbox_age_seconds`).

Invariant: label values come from closed sets, and none of them can be a person's number. A label
with a set takes only its members; a label without one takes names that stand in the code (rpcs,
topics, cells) or that operators choose (pools), checked for their form and bounded in count, so a
mistake fails instead of growing.
"""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, TypeVar

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.runtime.redaction import redact_text

_Any = TypeVar("_Any", Counter, Gauge, Histogram)
_FORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,99}", re.ASCII)
_MAX_CHILDREN: Final = 1024  # of one metric: 64 partitions x 16 topics

CODES: Final = frozenset(code.name for code in grpc.StatusCode)
# axbridge.router.v1.RefusalReason without its prefix, and CONNECTED.
ROUTE_REASONS: Final = frozenset({
    "CONNECTED", "DIALLED_INVALID", "BLOCK_FOREIGN", "CALLER_WITHHELD", "CALLER_INVALID",
    "NOT_BOUND", "EXPIRED", "RELEASED", "DIRECTION", "VIEW_STALE", "KEY_UNAVAILABLE",
    "NOT_STARTED", "OUTSIDE_HOURS", "UNSUPPORTED", "BLACKLISTED", "NOT_GENUINE", "UNVERIFIED",
    "TRANSFERRED", "TRANSFER_LOOP", "SHORT_NUMBER", "NO_CALLEE", "NO_LAST_CALLER",
    "EXTENSION_NEEDED", "EXTENSION_UNKNOWN", "SCANNING",
    "MESSAGES_REFUSED", "TEXT_HAS_NUMBER",
})  # fmt: skip
# `failing`: any other error of the operating system.
STORAGE_FAULTS: Final = frozenset({"full", "readonly", "damaged", "index", "failing"})
# 50 µs to 10 s in steps of about 2.2: calls that never wait stay below 1 ms, acked writes above.
RPC_BUCKETS: Final = (
    5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One row of the table. `labels` maps each label to its closed set, or None for code names."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    buckets: tuple[float, ...] = RPC_BUCKETS


class Name(Enum):
    """Every metric there is."""

    # Time in the handler of each rpc, answers and errors alike; its count is the number of calls.
    RPC_SECONDS = Spec(
        "rpc_seconds", "histogram", "Seconds in the handler of an rpc.", {"method": None}
    )
    # Calls that did not end with OK. Of all calls, see the count of rpc_seconds.
    RPC_FAILURES = Spec(
        "rpc_failures_total",
        "counter",
        "Calls that ended with another code than OK.",
        {"method": None, "code": CODES},
    )
    # 1 while the process can do its job and is not draining; alert when 0 for a minute.
    READY = Spec("ready", "gauge", "1 while the process is ready to serve.")

    # consumers: records that can never be applied, or contradict what is known: somebody writes
    # what nobody understands, or two histories of one thing exist. Each is to be looked at.
    PARKED = Spec("parked_total", "counter", "Records parked.", {"topic": None, "reason": None})

    # cells: 1 in the process that relays a cell; the sum over all processes must be 1.
    CELL_OWNER = Spec("cell_owner", "gauge", "1 while this process owns the cell.", {"cell": None})
    # cells: entries that wait for Kafka; writes are refused at 100,000 (OUTBOX_FULL).
    OUTBOX_WAITING = Spec(
        "outbox_waiting", "gauge", "Outbox entries not acknowledged by Kafka.", {"cell": None}
    )
    # cells: from a record's time to its acknowledgement; what every write waits for.
    OUTBOX_SECONDS = Spec(
        "outbox_age_seconds", "histogram", "Age of an entry once acknowledged.", {"cell": None}
    )
    # cells: records acknowledged; flat while outbox_waiting grows: Kafka is away.
    RELAYED = Spec("relayed_total", "counter", "Records acknowledged by Kafka.", {"cell": None})
    # cells: rebuilds of the store from Kafka; each is a lost or restarted store.
    HEALS = Spec("heals_total", "counter", "Times the store was rebuilt.", {"cell": None})
    # cells: stale records overruled; each is a relay that was frozen and woke late.
    REPAIRS = Spec("repairs_total", "counter", "Stale records overruled.", {"cell": None})

    # allocator: numbers asked for. Exhausted ones mean that a pool needs blocks, now.
    LEASES = Spec(
        "leases_total",
        "counter",
        "Numbers asked for, by outcome.",
        {"outcome": frozenset({"leased", "exhausted"})},
    )
    # allocator: leases that nobody confirmed or returned. A steady rate means that binding loses
    # answers, or dies between lease and binding.
    LEASES_RAN_OUT = Spec("leases_ran_out_total", "counter", "Leases that ran out and cool.")
    # allocator: hours until a pool (`<tenant>/<pool>`) is exhausted if its use grows on as in the
    # last hour; +Inf while it does not grow; `others`: the least of pools without a label of their
    # own. Told by the cell's owner alone. Alert below the time that a new block takes to get.
    POOL_HOURS_LEFT = Spec("pool_hours_left", "gauge", "Hours until exhaustion.", {"pool": None})
    # allocator: records of binding.routes.v1 folded; a flat line under load means it is stuck.
    ROUTES_FOLDED = Spec("routes_folded_total", "counter", "Route records folded.")

    # binding: from when a binding was due to its release (expiry) or removal (forget); its count is
    # the number of them. Alert when its p99 exceeds a few seconds: releases lag behind.
    SWEEP_LAG_SECONDS = Spec(
        "sweep_lag_seconds",
        "histogram",
        "Seconds from due to done.",
        {"job": frozenset({"expiry", "forget"})},
    )
    # binding: tries to end a record that cannot be read, one an hour each. Look at the key ring.
    SWEEP_UNREADABLE = Spec(
        "sweep_unreadable_total",
        "counter",
        "Due records that could not be read.",
        {"job": frozenset({"expiry", "forget", "upkeep"})},
    )
    # binding: the store's clock minus ours; beyond 2 s nothing is released (1 in the other gauge).
    STORE_CLOCK_SKEW_SECONDS = Spec("store_clock_skew_seconds", "gauge", "Store's clock ahead.")
    SWEEPER_STOPPED = Spec(
        "sweeper_stopped",
        "gauge",
        "1 while clocks disagree and nothing is swept.",
        {"job": frozenset({"expiry", "forget"})},
    )

    # router: decisions by reason, connected calls among them. A jump of one reason is the first
    # sign of a wrong view (NOT_BOUND), lost keys (KEY_UNAVAILABLE) or scanning (BLOCK_FOREIGN).
    ROUTE_DECISIONS = Spec(
        "decisions_total", "counter", "Decisions about calls.", {"reason": ROUTE_REASONS}
    )
    # router: age of the view; refusals begin at the limit (15 minutes), so alert at a minute.
    VIEW_AGE = Spec("view_age_seconds", "gauge", "Time since the view was known to hold all.")
    # router: octets of the journal that Kafka does not have yet; calls are refused at the limit.
    JOURNAL_WAITING = Spec("journal_waiting_bytes", "gauge", "Octets waiting in the journal.")
    # router: events acknowledged by Kafka; flat while decisions grow: the shipper is stuck.
    JOURNAL_SHIPPED = Spec("journal_shipped_total", "counter", "Events shipped from the journal.")
    # router: octets in which no event could be read. Torn tails of killed workers are a few; more
    # is a failing disk.
    JOURNAL_DAMAGED = Spec("journal_damaged_bytes_total", "counter", "Octets skipped as damaged.")
    # router: children that ended without being told to. Each is a crash to be looked at.
    CHILD_RESTARTS = Spec(
        "child_restarts_total",
        "counter",
        "Children started again.",
        {"child": frozenset({"writer", "worker"})},
    )
    # router.records: records written, late corrections included.
    CALL_RECORDS = Spec("call_records_total", "counter", "Records of calls written.")
    # router.records: calls of which only reports came, forgotten without a record.
    CALL_ORPHANS = Spec("call_orphans_total", "counter", "Calls that no decision ever came for.")
    # router.push: events that a platform took; those that wait, and those given up after a day.
    PUSH_DELIVERED = Spec("push_delivered_total", "counter", "Events that platforms took.")
    PUSH_FAILURES = Spec("push_failures_total", "counter", "Requests that platforms did not take.")
    PUSH_WAITING = Spec("push_waiting", "gauge", "Events that wait to be sent.")
    # Alert when not 0: mend the endpoint, then `python -m services.router.push redrive TENANT`.
    PUSH_PARKED = Spec("push_parked", "gauge", "Events undelivered for a day.")
    # audit: events that became leaves, and those that were leaves already (Kafka repeats them).
    LEAVES = Spec("leaves_total", "counter", "Leaves appended to the log.")
    REPEATS = Spec("repeats_total", "counter", "Events read that were leaves already.")
    # audit: size of the published tree; it never falls.
    LOG_LEAVES = Spec("log_leaves", "gauge", "Leaves of the published checkpoint.")
    # audit: events per append; near 1 under load means that fsyncs are not shared.
    BATCH_EVENTS = Spec(
        "batch_events", "histogram", "Events per append to the log.",
        buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000),
    )  # fmt: skip
    # audit: from Kafka's time stamp of a batch's oldest event to the checkpoint that covers it.
    PUBLISHED_SECONDS = Spec(
        "published_seconds", "histogram", "Age of the oldest event of a batch once published."
    )
    # audit: no unsequenced event is older; grows while Kafka or the sequencer is stuck.
    UNSEQUENCED_AGE = Spec(
        "unsequenced_age_seconds", "gauge", "Seconds since all topics were last read to their ends."
    )
    # audit: size of the newest checkpoint that enough witnesses cosigned; it follows log_leaves
    # within seconds, or witnesses are away or refuse.
    WITNESSED_LEAVES = Spec("witnessed_leaves", "gauge", "Leaves of the witnessed checkpoint.")
    # audit: 1 while the disk under the log (sequencer) or its index (service) is in this state; the
    # process is not ready, tries again, and has acknowledged nothing that is not durable.
    STORAGE_FAULT = Spec(
        "storage_fault", "gauge", "1 while storage fails in this way.", {"kind": STORAGE_FAULTS}
    )
    # audit: answers of witnesses. `refused` is an alarm: a witness saw another log than ours.
    WITNESS_ANSWERS = Spec(
        "witness_answers_total",
        "counter",
        "Answers of witnesses.",
        {"outcome": frozenset({"cosigned", "refused", "silent"})},
    )
    # audit: leaves that are published and cannot be found yet.
    INDEX_LAG = Spec("index_lag_leaves", "gauge", "Published leaves that are not indexed yet.")
    # audit: sealed parts that should open and do not: altered, or sealed as something else.
    INDEX_UNREADABLE = Spec(
        "index_unreadable_total", "counter", "Events indexed without an order, their seal broken."
    )


class Metrics:
    """Makes the metrics of one process. Ask once and keep what you get: asking takes a lock."""

    def __init__(self, service: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._service = service
        self._lock = threading.Lock()
        self._families: dict[Name, Counter | Gauge | Histogram] = {}
        self._children: dict[Name, set[tuple[str, ...]]] = {}

    def counter(self, name: Name, **labels: str) -> Counter:
        """The counter for these label values. Raises ValueError for a value outside its set."""
        return self._child(name, Counter, labels, lambda full, spec, keys: Counter(
            full, spec.help, keys, registry=self.registry))  # fmt: skip

    def gauge(self, name: Name, **labels: str) -> Gauge:
        """The gauge for these label values. Raises ValueError for a value outside its set."""
        return self._child(name, Gauge, labels, lambda full, spec, keys: Gauge(
            full, spec.help, keys, registry=self.registry))  # fmt: skip

    def histogram(self, name: Name, **labels: str) -> Histogram:
        """The histogram for these label values. Raises ValueError for a value outside its set."""
        return self._child(name, Histogram, labels, lambda full, spec, keys: Histogram(
            full, spec.help, keys, registry=self.registry, buckets=spec.buckets))  # fmt: skip

    def _child(
        self,
        name: Name,
        kind: type[_Any],
        labels: dict[str, str],
        make: Callable[[str, Spec, tuple[str, ...]], _Any],
    ) -> _Any:
        spec = name.value
        if spec.kind != kind.__name__.lower():
            raise ValueError(f"{spec.name} is a {spec.kind}")
        _check(spec, labels)
        with self._lock:
            family: Any = self._families.get(name)
            if family is None:
                family = make(f"{self._service}_{spec.name}", spec, tuple(spec.labels))
                self._families[name] = family
            if not labels:
                return family  # type: ignore[no-any-return]
            children = self._children.setdefault(name, set())
            children.add(tuple(labels[key] for key in spec.labels))
            if len(children) > _MAX_CHILDREN:
                raise ValueError(f"{spec.name} has too many label values")
            return family.labels(**labels)  # type: ignore[no-any-return]


def _check(spec: Spec, labels: Mapping[str, str]) -> None:
    if set(labels) != set(spec.labels):
        raise ValueError(f"{spec.name} takes the labels {sorted(spec.labels)}")
    for key, allowed in spec.labels.items():
        value = labels[key]
        if allowed is not None and value not in allowed:
            raise ValueError(f"{spec.name}: a value outside the set of label {key}")
        if allowed is None and (not _FORM.fullmatch(value) or redact_text(value) != value):
            raise ValueError(f"{spec.name}: label {key} takes names that stand in the code")
