"""Route values for tests of the view. Pure."""

from services.router.view import GRAVES, TABLES, Copy, Route, Tombstone

NUMBER = "700123456780001"
TAG_A, TAG_B, TAG_C = b"A" * 16, b"B" * 16, b"C" * 16
DAY_MS = 24 * 3600 * 1000


def route(
    binding: str = "b1",
    version: int = 1,
    *,
    active: bool = True,
    number: str = NUMBER,
    tenant: str = "t1",
    tags: tuple[bytes, bytes] = (TAG_A, TAG_B),
    expire_ms: int = 5_000,
    lease_epoch: int = 1,
    mode: int = 1,
    options: str = "",
    pool: str = "",
) -> Route:
    """A route; its callees' boxes say whose they are."""
    boxes = [Copy("route/t1/20260101", b"box of " + tag[:1]) for tag in tags]
    if not active:
        boxes = [Copy("", b"")] * 2
    return Route(
        tenant, binding, number, version, active, mode, 1, 30, expire_ms, tags[0], tags[1],
        boxes[0], boxes[1], lease_epoch, "taxi", options, pool,
    )  # fmt: skip


def tombstone(binding: str = "b1", version: int = 2, time_ms: int = 1_000) -> Tombstone:
    """The end of a binding's record."""
    return Tombstone(NUMBER, binding, version, time_ms)


class MemoryTables:
    """`view.Tables` in dictionaries."""

    def __init__(self) -> None:
        self.tables: dict[bytes, dict[bytes, bytes]] = {}

    def get(self, table: bytes, key: bytes) -> bytes | None:
        return self.tables.get(table, {}).get(key)

    def put(self, table: bytes, key: bytes, value: bytes) -> None:
        self.tables.setdefault(table, {})[key] = value

    def delete(self, table: bytes, key: bytes) -> None:
        self.tables.get(table, {}).pop(key, None)

    def first(self, table: bytes) -> bytes | None:
        return min(self.tables.get(table, {}), default=None)

    def content(self) -> dict[bytes, dict[bytes, bytes]]:
        """All tables but the graves' index, whose values say nothing a caller meets."""
        return {name: dict(self.tables.get(name, {})) for name in TABLES if name != GRAVES}
