"""A bundle arrives whole and once, whatever the receiver does: with each fault, applied or not."""

from pathlib import Path

import pytest

from services.audit.bundle import MANIFEST, check, write
from services.audit.delivery import DeliveryConflict, FolderReceiver, deliver
from tests.unit.audit.test_bundle import ROWS, SIGNER, SOURCE, SUBJECT, octets


class Shaky(FolderReceiver):
    """Fails at the given calls, before or after they did their work."""

    def __init__(self, root: Path, faults: dict[int, str]) -> None:
        super().__init__(root)
        self.faults = faults
        self.calls = 0

    def _fault(self, when: str) -> None:
        if self.faults.get(self.calls) == when:
            raise ConnectionResetError

    def put(self, path: str, content: Path) -> None:
        self.calls += 1
        self._fault("before")
        super().put(path, content)
        self._fault("after")

    def rename(self, path: str, to: str) -> None:
        self.calls += 1
        self._fault("before")
        super().rename(path, to)
        self._fault("after")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "out", SUBJECT, SOURCE, ROWS, SIGNER)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(1, 8))  # six files and the rename
def test_a_fault_anywhere_is_tried_again(
    tmp_path: Path, bundle: Path, call: int, when: str
) -> None:
    there, waited = tmp_path / "there", list[float]()
    deliver(Shaky(there, {call: when}), bundle, waited.append)
    assert waited == [1.0]
    assert [path.name for path in there.iterdir()] == [bundle.name]
    assert octets(there / bundle.name) == octets(bundle)
    check(there / bundle.name, SIGNER.verifier)


def test_it_gives_up_and_goes_on_the_next_time(tmp_path: Path, bundle: Path) -> None:
    there, waited = tmp_path / "there", list[float]()
    faults = dict.fromkeys(range(3, 100), "before")
    with pytest.raises(ConnectionResetError):
        deliver(Shaky(there, faults), bundle, waited.append, (1.0, 2.0))
    assert waited == [1.0, 2.0]
    assert not (there / bundle.name).exists()
    deliver(FolderReceiver(there), bundle, waited.append)
    deliver(FolderReceiver(there), bundle, waited.append)  # once more does nothing
    assert octets(there / bundle.name) == octets(bundle)


def test_another_bundle_of_the_name_is_not_replaced(tmp_path: Path, bundle: Path) -> None:
    there = tmp_path / "there"
    deliver(FolderReceiver(there), bundle, lambda _: None)
    (there / bundle.name / MANIFEST).write_text("another")
    with pytest.raises(DeliveryConflict):
        deliver(FolderReceiver(there), bundle, lambda _: None)
