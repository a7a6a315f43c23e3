"""Cosignatures are gathered until the policy is satisfied; witnesses may be away, lie or differ."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.audit.checkpoint import open_checkpoint
from services.audit.cosignature import WitnessSigner, cosigners
from services.audit.gatherer import Gatherer, follow
from services.audit.logfolder import Event, LogFolder
from services.audit.policy import Policy
from services.audit.ports import LogLocked
from services.audit.served import ServedFolder
from services.audit.witnessing import Answer, Witness
from services.runtime.errors import Unavailable
from services.runtime.metrics import Metrics
from tests.audit_source import until
from tests.unit.audit.test_witness import running, vkey_of
from tests.unit.audit.test_witnessing import MemoryWitnessStore

NAMES = ("w0", "w1", "w2")


class World:
    """A log and three witnesses in memory; `broken` witnesses answer what the test says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = LogFolder.open(root, "axbridge.example/log", lambda entry: entry)
        self.log = ServedFolder(root / "log")
        self.signers = {name: WitnessSigner.generate(name) for name in NAMES}
        self.stores = {name: MemoryWitnessStore() for name in NAMES}
        self.broken: dict[str, Callable[[bytes], Answer]] = {}
        self.metrics = Metrics("audit")

    def append(self, *entries: bytes) -> None:
        self.folder.append([Event(entry, entry) for entry in entries], b"")

    def policy(self, quorum: str = "2") -> Policy:
        lines = [
            f"witness {name} {signer.verifier.vkey} http://{name}"
            for name, signer in self.signers.items()
        ]
        return Policy.parse("\n".join([*lines, f"group most {quorum} w0 w1 w2", "quorum most"]))

    def ask(self, url: str, body: bytes) -> Answer:
        name = url.removeprefix("http://").removesuffix("/add-checkpoint")
        if name in self.broken:
            return self.broken[name](body)
        log = self.folder.log._signers[0].verifier
        witness = Witness(self.signers[name], [log], self.stores[name], lambda: 1_700_000_000)
        return witness.add_checkpoint(body)

    def gatherer(self, quorum: str = "2") -> Gatherer:
        hold = self.root / "gatherer"
        return Gatherer(self.root / "log", hold, self.policy(quorum), self.metrics, self.ask)

    def witnessed(self) -> tuple[int, list[str]]:
        """Size, and who cosigned it."""
        found = self.log.witnessed()
        if found is None:
            return -1, []
        verifiers = [signer.verifier for signer in self.signers.values()]
        names = {signer.verifier.vkey: name for name, signer in self.signers.items()}
        return found.tree.size, sorted(names[vkey] for vkey in cosigners(found.note, verifiers))

    def counted(self, outcome: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "audit_witness_answers_total", {"outcome": outcome}
        )
        return value or 0.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.folder.close()


def away(body: bytes) -> Answer:
    raise ConnectionRefusedError


def test_each_newest_checkpoint_is_witnessed_once(world: World) -> None:
    gatherer = world.gatherer()
    for count in range(3):
        assert gatherer.round()
        assert world.witnessed() == (count, list(NAMES))
        asked = world.counted("cosigned")
        assert gatherer.round()
        assert world.counted("cosigned") == asked == 3 * (count + 1)
        world.append(b"%d" % count)
    note = (world.root / "log/checkpoint.witnessed").read_bytes()
    verifier = world.folder.log._signers[0].verifier
    assert open_checkpoint(note, [verifier], verifier.name).size == 2
    gatherer.close()


def test_two_of_three_are_enough_and_one_is_not(world: World) -> None:
    gatherer = world.gatherer()
    world.append(b"a")
    world.broken["w0"] = away
    assert gatherer.round()
    assert world.witnessed() == (1, ["w1", "w2"])
    world.broken["w2"] = away
    world.append(b"b")
    assert not gatherer.round()
    assert world.witnessed() == (1, ["w1", "w2"])
    world.broken.clear()
    assert gatherer.round()
    assert world.witnessed() == (2, list(NAMES))
    gatherer.close()


def test_a_new_gatherer_learns_what_each_witness_has_seen(world: World) -> None:
    world.append(b"a")
    first = world.gatherer()
    world.broken["w2"] = away
    first.round()
    first.close()
    world.broken.clear()
    world.append(b"b")
    second = world.gatherer("all")
    assert second.round()
    assert world.witnessed() == (2, list(NAMES))
    second.close()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, ""), Answer(200, "nonsense\n"), Answer(200, "— w0 AAAAAAAA\n"),
        Answer(403, "no\n"), Answer(422, "no\n"), Answer(409, "x\n"), Answer(409, "-1\n"),
        Answer(409, "9999999999\n"), Answer(500, ""),
    ],
)  # fmt: skip
def test_a_witness_that_answers_nonsense_counts_for_nothing(world: World, answer: Answer) -> None:
    world.append(b"a")
    world.broken["w0"] = lambda body: answer
    gatherer = world.gatherer()
    assert gatherer.round()
    assert world.witnessed() == (1, ["w1", "w2"])
    gatherer.close()


def test_anothers_cosignature_counts_for_nothing(world: World) -> None:
    world.append(b"a")
    text = world.folder.log.checkpoint.text()
    world.broken["w0"] = lambda body: Answer(200, world.signers["w1"].cosign(text, 1))
    world.broken["w2"] = away
    gatherer = world.gatherer()
    assert not gatherer.round()
    assert (world.witnessed()[0], world.counted("refused")) == (-1, 1)
    gatherer.close()


def test_a_second_gatherer_is_refused(world: World) -> None:
    first = world.gatherer()
    with pytest.raises(LogLocked):
        world.gatherer()
    first.close()
    world.gatherer().close()


def test_a_stricter_policy_takes_what_stands_for_not_witnessed(world: World) -> None:
    world.append(b"a")
    world.broken["w0"] = away
    first = world.gatherer()
    first.round()
    first.close()
    strict = world.gatherer("all")
    assert not strict.round()
    world.broken.clear()
    assert strict.round()
    assert world.witnessed() == (1, list(NAMES))
    strict.close()


def test_over_http_with_a_real_witness(world: World, tmp_path: Path) -> None:
    log = world.folder.log._signers[0].verifier.vkey
    with running(tmp_path / "witness", log) as url:
        policy = Policy.parse(f"witness w {vkey_of(url).vkey} {url}/\nquorum w")
        gatherer = Gatherer(world.root / "log", world.root / "hold", policy, world.metrics)
        world.append(b"a")
        stop = threading.Event()
        following = threading.Thread(target=follow, args=(gatherer, stop, 0.01))
        following.start()
        try:
            until(lambda: world.log.witnessed() is not None)
        finally:
            stop.set()
            following.join()
            gatherer.close()
    assert world.witnessed()[0] in (0, 1)


def test_no_log_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    policy = Policy.parse("quorum none")
    gatherer = Gatherer(tmp_path / "log", tmp_path / "hold", policy, Metrics("audit"))
    with pytest.raises(Unavailable):
        gatherer.round()
    gatherer.close()
