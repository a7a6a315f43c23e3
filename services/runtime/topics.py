"""The catalogue of Kafka topics: who writes each, what its values are, how long it keeps them.

Creates topics that are missing and refuses to start on ones that differ where it matters. What it
refuses to do: change a topic that exists. Invariant: the partition of everything about a middle
number is `partition_of(number)`, so one number's history is ordered.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from services.runtime.errors import FailedPrecondition

_DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True)
class Topic:
    """One topic. `messages` are the full names of the protobuf messages its values hold."""

    name: str
    owner: Literal["allocator", "binding", "router", "audit"]
    kind: Literal["events", "compacted", "views"]
    messages: tuple[str, ...]
    key: str
    config: dict[str, str] = field(default_factory=dict)

    @property
    def parked(self) -> str:
        """Where a consumer puts what it can never apply."""
        return f"{self.name}.parked"


def _events(name: str, owner: Any, key: str, *messages: str) -> Topic:
    # Two years: logs and identifiers (R16). What is personal dies earlier, with its key.
    return Topic(name, owner, "events", messages, key, {"retention.ms": str(731 * _DAY_MS)})


def _compacted(name: str, owner: Any, key: str, *messages: str) -> Topic:
    config = {
        "cleanup.policy": "compact",
        # A reader or store older than 6 days starts from the beginning, so tombstones outlive it.
        "delete.retention.ms": str(7 * _DAY_MS),
        # Far longer than the owner takes to repair a stale record (design decision 3).
        "min.compaction.lag.ms": str(3600 * 1000),
    }
    return Topic(name, owner, "compacted", messages, key, config)


ALLOCATOR_NUMBERS: Final = _events(
    "allocator.numbers.v1",
    "allocator",
    "the pool, block or number",
    "axbridge.allocator.v1.PoolCreated",
    "axbridge.allocator.v1.BlockRegistered",
    "axbridge.allocator.v1.BlockChanged",
    "axbridge.allocator.v1.NumbersLeased",
    "axbridge.allocator.v1.NumberChanged",
)
ALLOCATOR_STATE: Final = _compacted(
    "allocator.state.v1", "allocator", "see the message", "axbridge.allocator.v1.StateRecord"
)
BINDING_BINDINGS: Final = _events(
    "binding.bindings.v1",
    "binding",
    "<700 number>/<binding id>",
    "axbridge.binding.v1.BindingCreated",
    "axbridge.binding.v1.BindingUpdated",
    "axbridge.binding.v1.BindingReleased",
)
BINDING_STATE: Final = _compacted(
    "binding.state.v1", "binding", "<700 number>/<binding id>", "axbridge.binding.v1.StateRecord"
)
BINDING_ROUTES: Final = _compacted(
    "binding.routes.v1", "binding", "<700 number>/<binding id>", "axbridge.binding.v1.Route"
)
BINDING_KEYS: Final = _compacted(
    "binding.keys.v1", "binding", "the key's id", "axbridge.binding.v1.RouteKey"
)
BINDING_CONSENTS: Final = _events(
    "binding.consents.v1",
    "binding",
    "consent/<tenant>/<consent> or consent-policy/<tenant>/current",
    "axbridge.binding.v1.ConsentGranted",
    "axbridge.binding.v1.ConsentWithdrawalRequested",
    "axbridge.binding.v1.ConsentWithdrawn",
    "axbridge.binding.v1.ConsentDrained",
    "axbridge.binding.v1.ConsentErased",
    "axbridge.binding.v1.ConsentPolicyChanged",
)
BINDING_BLACKLISTS: Final = _events(
    "binding.blacklists.v1",
    "binding",
    "blacklist/<tenant>/<entry>",
    "axbridge.binding.v1.BlacklistEntryAdded",
    "axbridge.binding.v1.BlacklistEntryRemoved",
)
BINDING_DENIALS: Final = _compacted(
    "binding.denials.v1", "binding", "blacklist/<tenant>/<entry>", "axbridge.binding.v1.Denial"
)
BINDING_RETENTION: Final = _events(
    "binding.retention.v1",
    "binding",
    "see the message",
    "axbridge.binding.v1.BucketPurged",
    "axbridge.binding.v1.SubjectRestricted",
    "axbridge.binding.v1.SubjectExported",
    "axbridge.binding.v1.LegalHoldChanged",
    "axbridge.binding.v1.LegalHoldEnded",
)
ROUTER_CALLS: Final = _events(
    "router.calls.v1",
    "router",
    "<carrier>/<call id>",
    "axbridge.router.v1.CallRouted",
    "axbridge.router.v1.CallRefused",
    "axbridge.router.v1.CallProgressed",
)
ROUTER_RECORDS: Final = _events(
    "router.records.v1", "router", "<carrier>/<call id>", "axbridge.router.v1.CallRecorded"
)
# Told by every router each second, and asked for within weeks.
ROUTER_VIEWS: Final = Topic(
    "router.views.v1", "router", "views", ("axbridge.router.v1.ViewApplied",), "the router's id",
    {"retention.ms": str(30 * _DAY_MS)},
)  # fmt: skip
# A view's own memory, which no service owns a state of: the longest call back of mode AXE (7 days)
# and one day, after which a caller is on no disk of Kafka's any more.
ROUTER_CALLERS: Final = Topic(
    "router.callers.v1",
    "router",
    "views",
    ("axbridge.router.v1.LastCaller",),
    "<700 number>/<binding id>",
    {"cleanup.policy": "compact,delete", "retention.ms": str(8 * _DAY_MS)},
)

AUDIT_RECONCILIATION: Final = _events(
    "audit.reconciliation.v1",
    "audit",
    "<carrier>/<call id> or <carrier>/<day>",
    "axbridge.audit.v1.CallMissing",
    "axbridge.audit.v1.CallExtra",
    "axbridge.audit.v1.CallDiffers",
    "axbridge.audit.v1.DayReconciled",
)

CATALOGUE: Final = (
    ALLOCATOR_NUMBERS,
    ALLOCATOR_STATE,
    BINDING_BINDINGS,
    BINDING_STATE,
    BINDING_ROUTES,
    BINDING_KEYS,
    BINDING_CONSENTS,
    BINDING_BLACKLISTS,
    BINDING_DENIALS,
    BINDING_RETENTION,
    ROUTER_CALLS,
    ROUTER_RECORDS,
    ROUTER_VIEWS,
    AUDIT_RECONCILIATION,
    ROUTER_CALLERS,
)
EVENT_TOPICS: Final = tuple(topic for topic in CATALOGUE if topic.kind == "events")


def partition_of(subject: str, partitions: int) -> int:
    """The partition of a 700 number (15 digits), call key or other subject."""
    return zlib.crc32(subject.encode()) % partitions


def partition_counts(admin: AdminClient, topics: Iterable[Topic]) -> dict[str, int]:
    """How many partitions each topic has.

    Raises:
        FailedPrecondition: TOPIC_MISSING; `python -m deploy.topics` creates them.
    """
    known = admin.list_topics(timeout=10).topics
    counts = {}
    for topic in topics:
        metadata = known.get(topic.name)
        if metadata is None or not metadata.partitions:
            raise FailedPrecondition("TOPIC_MISSING", topic=topic.name)
        counts[topic.name] = len(metadata.partitions)
    return counts


def ensure(
    admin: AdminClient,
    partitions: int = 64,
    replication: int = 1,
    topics: Iterable[Topic] = CATALOGUE,
) -> None:
    """Creates the topics that are missing, each with its parked twin, and checks the others.

    Raises:
        FailedPrecondition: TOPIC_DIFFERS: a topic exists whose clean-up policy is not ours.
    """
    wanted: dict[str, dict[str, str]] = {}
    for topic in topics:
        wanted[topic.name] = topic.config
        wanted[topic.parked] = {"retention.ms": str(731 * _DAY_MS)}
    known = admin.list_topics(timeout=10).topics
    new = [
        NewTopic(
            name,
            num_partitions=1 if name.endswith(".parked") else partitions,
            replication_factor=replication,
            config=config,
        )
        for name, config in wanted.items()
        if name not in known
    ]
    existing = {name for name in wanted if name in known}
    for name, outcome in (admin.create_topics(new) if new else {}).items():
        try:
            outcome.result()
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise FailedPrecondition("TOPIC_NOT_CREATED", topic=name) from error
            existing.add(name)  # another process was faster, or the broker's list lagged
    _check(admin, {name: wanted[name] for name in existing})


def _check(admin: AdminClient, wanted: dict[str, dict[str, str]]) -> None:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
    for resource, outcome in (admin.describe_configs(resources) if resources else {}).items():
        policy = outcome.result()["cleanup.policy"].value
        if policy != wanted[resource.name].get("cleanup.policy", "delete"):
            raise FailedPrecondition("TOPIC_DIFFERS", topic=resource.name, setting="cleanup.policy")
