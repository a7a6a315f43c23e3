"""What the owner of a term suspects, while its reading thread finds more."""

from collections.abc import Callable
from typing import Any

from services.runtime.cell import Cell
from services.runtime.errors import Malformed, contradicted
from services.runtime.metrics import Metrics
from services.runtime.record import Record
from services.runtime.repair import Repair
from tests.parking import MemoryParking

EPOCH = 7
KEY = "positions"


class Service(MemoryParking):
    """A Rebuild and the store behind its cell."""

    topics = ("state",)

    def __init__(self) -> None:
        super().__init__()
        self.repaired: list[Record] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.verified: dict[str, int] = {}
        self.announced = 0
        self.wrong: Malformed | None = None

    async def repair(self, record: Record, *, overrule: bool = False) -> bool:
        if self.wrong and not overrule:
            raise self.wrong
        self.repaired.append(record)
        self.meanwhile()
        return True

    async def announce(self) -> None:
        self.announced += 1

    async def hset(self, _key: str, mapping: dict[str, int]) -> None:
        self.verified |= mapping


def made() -> tuple[Repair, Service]:
    service = Service()
    cell: Any = Cell("redis://127.0.0.1:1", "toy", "c0", "")
    cell.redis = service
    rebuild: Any = service
    return Repair(cell, "127.0.0.1:1", rebuild, EPOCH, Metrics("toy"), service), service


def record(offset: int, epoch: int) -> Record:
    return Record("state", 0, offset, b"a", b"", [("ce_axepoch", b"%d" % epoch)], 0)


def read(repair: Repair, *records: Record) -> None:
    repair.apply([(each, None) for each in records], {("state", 0): records[-1].offset + 1})


async def test_a_stale_record_behind_which_none_follows_is_repaired_and_then_verified() -> None:
    repair, service = made()
    stale = record(3, EPOCH - 1)
    read(repair, stale)
    await repair._settle(0.0, KEY)  # the end of the topic as of now is not known yet
    assert (service.repaired, service.verified) == ([], {})
    await repair._settle(float("inf"), KEY)
    assert (service.repaired, service.verified) == ([stale], {"verified/state/0": 4})


async def test_a_newer_record_clears_the_key_of_suspicion() -> None:
    repair, service = made()
    read(repair, record(3, EPOCH - 1), record(4, EPOCH))
    await repair._settle(float("inf"), KEY)
    assert (service.repaired, service.verified) == ([], {"verified/state/0": 5})


async def test_a_second_stale_record_that_comes_while_the_first_is_repaired_is_repaired_too() -> (
    None
):
    repair, service = made()
    first, second = record(3, EPOCH - 1), record(4, EPOCH - 2)
    service.meanwhile = lambda: read(repair, second)
    read(repair, first)
    await repair._settle(float("inf"), KEY)
    service.meanwhile = lambda: None
    assert service.verified == {}
    await repair._settle(float("inf"), KEY)
    assert (service.repaired, service.verified) == ([first, second], {"verified/state/0": 5})


async def test_void_positions_are_verified_from_the_start_and_the_store_is_published() -> None:
    repair, service = made()
    repair._start = {("state", 0): 9, ("state", 1): 9}
    read(repair, record(3, EPOCH))
    repair.void({("state", 0): "LOG_WENT_BACK"})
    assert repair.positions() == {("state", 1): 9}
    await repair._announced()
    await repair._announced()
    assert service.announced == 1
    await repair._settle(float("inf"), KEY)
    assert service.verified == {}  # of the topic that was


async def test_what_contradicts_the_version_that_stands_is_parked_and_overruled() -> None:
    repair, service = made()
    service.wrong, stale = contradicted(), record(3, EPOCH - 1)
    read(repair, stale)
    await repair._settle(float("inf"), KEY)
    assert service.parked == [(stale, "VERSION_CONTRADICTED")]
    assert (service.repaired, service.verified) == ([stale], {"verified/state/0": 4})


async def test_what_cannot_be_read_is_parked() -> None:
    repair, service = made()
    service.wrong, stale = Malformed("STATE_MALFORMED"), record(3, EPOCH - 1)
    read(repair, stale)
    await repair._settle(float("inf"), KEY)
    assert service.parked == [(stale, "STATE_MALFORMED")]
    assert (service.repaired, service.verified) == ([], {"verified/state/0": 4})
