"""From a binding to a decision without brokers: what binding seals and publishes, folded by a
router that shares the key ring. Both sides are the real code; only stores and clock are in memory.
"""

from datetime import timedelta

from axbridge.binding.v1 import events_pb2
from axbridge.runtime.v1 import outbox_pb2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from services.binding.blacklistmessages import BlacklistMessages
from services.binding.domain import Binding
from services.binding.messages import Copies
from services.binding.records import Records
from services.binding.registers import RegisterRecords
from services.binding.vault import KeyedTags, RouteSeal, Vault
from services.router.domain import Call, Decision, LastCaller, Progress
from services.router.handlers import Router
from services.router.opener import CallerTagger, RouteOpener
from services.router.packed import JournalCipher
from services.router.recorder import JournalRecorder
from services.router.subscriber import decode_caller, decode_denial, decode_route
from services.router.texts import Text
from services.router.view import Copy
from services.runtime.clock import ManualClock
from services.runtime.envelope import Envelope
from services.runtime.keyring import MemoryKeyRing
from services.runtime.phone import PhoneNumber
from services.runtime.record import Record
from services.runtime.sealing import EvidenceWriter, PurgeSealer, associated, open_evidence
from services.runtime.sm import Suite
from services.runtime.topics import CATALOGUE
from services.runtime.wrapping import new_route_key, wrap_route_key
from tests.unit.binding.memory import TENANT
from tests.unit.router.journals import MemoryJournal
from tests.unit.router.memoryview import MemoryView

A, B, C, D = (PhoneNumber(f"+8613{n}12345678") for n in (5, 6, 7, 8))

_PARTITIONS = {topic.name: 4 for topic in CATALOGUE if topic.owner == "binding"}


class Chain:
    """A tenant's keys, its vault, and a router's view of what was published."""

    def __init__(self, suite: Suite = "aes") -> None:
        self.clock = ManualClock()
        self.ring = MemoryKeyRing()
        self.ring.suites[TENANT] = suite
        self.tags = KeyedTags(self.ring)
        self.private = X25519PrivateKey.generate()
        public = self.private.public_key().public_bytes_raw()
        self.vault = Vault(PurgeSealer(self.ring), EvidenceWriter(public, self.ring))
        self.records = Records(_PARTITIONS)
        self.listed = BlacklistMessages(PurgeSealer(self.ring))
        self.view = MemoryView(CallerTagger(self.ring))
        self.router = Router(
            self.view, RouteOpener(self, self.ring, self.clock), self, self.clock, 10**12
        )
        self._keys: dict[str, bytes] = {}
        self.offset = 0

    def tag(self, who: PhoneNumber) -> bytes:
        return self.tags.party(TENANT, who.e164)

    def route_seal(self, binding: Binding) -> RouteSeal:
        key_id = self.vault.route_key_id(binding)
        return RouteSeal(key_id, self._keys.setdefault(key_id, new_route_key()))

    def wrapped(self, key_id: str) -> Copy | None:
        """See opener.WrappedKeys."""
        box = wrap_route_key(self.ring, key_id, self._keys[key_id])
        return Copy(box.key_id, box.box)

    def publish(self, binding: Binding, copies: Copies) -> None:
        """Hands the routes of an entry to the router, as Kafka would."""
        _, entry = self.records.entry(binding, copies)
        for record in outbox_pb2.OutboxEntry.FromString(entry).records:
            if record.topic == "binding.routes.v1":
                headers = Envelope("e", record.type, "/s", record.time_ms, record.version).headers()
                place = Record("routes", 0, self.offset, record.key, record.value, headers, 0)
                self.view.apply([(place, decode_route(place))], {("routes", 0): self.offset + 1})
                self.offset += 1
        self.view.tick(self.clock.epoch_ms() / 1000)

    def denials(self, state: events_pb2.StateRecord) -> None:
        """Hands the denial of an entry to the router, as Kafka would."""
        entry = RegisterRecords(_PARTITIONS).entry(state)
        for record in outbox_pb2.OutboxEntry.FromString(entry).records:
            if record.topic == "binding.denials.v1":
                headers = Envelope("e", record.type, "/s", record.time_ms, record.version).headers()
                value = None if record.tombstone else record.value
                place = Record("denials", 0, self.offset, record.key, value, headers, 0)
                at = ("denials", 0)
                self.view.apply([(place, decode_denial(place))], {at: self.offset + 1})
                self.offset += 1

    def bind(self, binding: Binding, a: PhoneNumber, b: PhoneNumber | None = None) -> Copies:
        """Seals and publishes a new binding."""
        copies = self.vault.seal_new(binding, a, b, self.route_seal(binding))
        self.publish(binding, copies)
        return copies

    def again(
        self, old: Binding, copies: Copies, new: Binding, b: PhoneNumber | None = None
    ) -> Copies:
        """Seals and publishes a new version."""
        if new.live:
            made = self.vault.seal_again(
                old, copies, new, self.route_seal(old), self.route_seal(new), b
            )
        else:
            made = self.vault.seal_ended(new, copies)
        self.publish(new, made)
        return made

    def evidence(self, copies: Copies) -> bytes:
        """What an approved unmask would show."""
        assert copies.evidence is not None
        bound = associated("binding-evidence", TENANT, "b1")
        private = self.private.private_bytes_raw()
        return open_evidence(private, self.ring, copies.evidence, bound)

    def wait(self, **span: float) -> None:
        """Lets time pass."""
        self.clock.advance(timedelta(**span))

    def call(self, caller: PhoneNumber | str, dialled: str, extension: str = "") -> Decision:
        """What the router decides."""
        text = caller.e164 if isinstance(caller, PhoneNumber) else caller
        return self.router.route(Call("cmcc", "c1", text, dialled, "", (), extension))

    def answer(self, caller: PhoneNumber | str, dialled: str, extension: str = "") -> str:
        """The callee, or the reason of the refusal."""
        decision = self.call(caller, dialled, extension)
        return decision.callee if decision.refusal is None else decision.refusal.name

    def decided(self, decision: Decision) -> None:
        """See ports.Recorder."""

    def messaged(self, decision: Decision, text: Text) -> None:
        """See ports.Recorder."""

    def called(self, last: LastCaller) -> None:
        """See ports.Recorder; as Kafka would hand it to the view."""
        journal = MemoryJournal()
        JournalRecorder(journal, JournalCipher(self.ring, "j")).called(last)  # type: ignore[arg-type]
        _, _, _, key, value = journal.written[0]
        place = Record("callers", 0, self.offset, key, value, [], 0)
        self.view.apply([(place, decode_caller(place))], {("callers", 0): self.offset + 1})
        self.offset += 1

    def progressed(self, progress: Progress, time_ms: int) -> None:
        """See ports.Recorder."""
