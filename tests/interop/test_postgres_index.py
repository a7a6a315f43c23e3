"""EventIndex on Debian's PostgreSQL: the same suite as for SQLite, and what is PostgreSQL's own."""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from services.audit.domain import Filter
from services.audit.ports import EventIndex, StorageConflict
from services.runtime.errors import Unavailable
from tests.contract.test_audit_index import (  # noqa: F401 (tests, collected here once more)
    rows,
    test_filters_alone_and_together,
    test_finds_an_event_and_a_tenant,
    test_it_belongs_to_one_log,
    test_rows_come_without_a_gap_and_count_once,
    test_the_tags_of_a_bucket_go_with_it,
    test_threads_read_whole_batches_while_one_writes,
    test_who_lived_on_a_number_at_a_time,
)
from tests.interop.postgres import Server, running

if TYPE_CHECKING:
    from services.audit.postgresindex import PostgresIndex

_NAMES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def made(server: Server) -> "Iterator[Callable[[str], PostgresIndex]]":
    from services.audit.postgresindex import PostgresIndex

    open_ones: list[PostgresIndex] = []

    def make(url: str = "") -> PostgresIndex:
        open_ones.append(PostgresIndex(url or server.url(f"test{next(_NAMES)}")))
        return open_ones[-1]

    yield make
    for each in open_ones:
        each.close()


@pytest.fixture
def index(made: "Callable[[str], PostgresIndex]") -> EventIndex:
    return made("")


def test_a_database_keeps_everything_for_several_processes(
    server: Server, made: "Callable[[str], PostgresIndex]"
) -> None:
    url = server.url("shared")
    one, two = made(url), made(url)
    one.claim("key")
    one.add(rows(5))
    two.add(rows(8))
    one.add(rows(9))
    assert two.query(Filter(), 0, 100, 100) == list(range(9))
    with pytest.raises(StorageConflict):
        two.claim("another")


def test_another_version_is_refused(server: Server, made: "Callable[[str], PostgresIndex]") -> None:
    import sqlalchemy

    url = server.url("older")
    made(url)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE log SET version = 99"))
    engine.dispose()
    with pytest.raises(StorageConflict):
        made(url)


def test_a_server_that_went_away_is_unavailable_and_then_there_again(
    server: Server, made: "Callable[[str], PostgresIndex]"
) -> None:
    index = made("")
    index.add(rows(5))
    size = index.size
    server.stop()
    try:
        with pytest.raises(Unavailable, match="INDEX_UNAVAILABLE"):
            index.query(Filter(), 0, 100, 100)
        with pytest.raises(Unavailable, match="INDEX_UNAVAILABLE"):
            index.add(rows(9))
    finally:
        server.start()
    # What a crash took is from the end, a batch at a time: feeding again from `size` mends it.
    assert index.size in (0, size)
    index.add(rows(9))
    assert index.query(Filter(), 0, 100, 100) == list(range(9))


@pytest.mark.parametrize(
    ("wanted", "used"),
    [
        (Filter(binding="b7"), "events_by_binding"),
        (Filter(order_tag=b"o7", tenant="taxi"), "events_by_order_tag"),
        (Filter(number="700000000000007", tenant="taxi"), "numbers_pkey"),
        (Filter(party=b"p7", tenant="taxi"), "parties_pkey"),
        (Filter(call="c/7"), "events_by_call"),
        (Filter(), "events_pkey"),
    ],
)
def test_every_query_walks_an_index(filled: "PostgresIndex", wanted: Filter, used: str) -> None:
    import sqlalchemy
    from sqlalchemy.dialects import postgresql

    from services.audit.postgrestables import select

    text = select(wanted, 0, 20_000, 10).compile(
        dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
    )
    with filled._engine.connect() as connection:
        plan = "\n".join(connection.execute(sqlalchemy.text(f"EXPLAIN {text}")).scalars())
    assert used in plan
    assert "Seq Scan" not in plan


@pytest.fixture(scope="module")
def filled(server: Server) -> "Iterator[PostgresIndex]":
    """20,000 leaves, of which few have any one property but the tenant."""
    import sqlalchemy

    from services.audit.domain import IndexRow
    from services.audit.postgresindex import PostgresIndex

    index = PostgresIndex(server.url("filled"))
    index.add([
        IndexRow(
            leaf, f"e{leaf}", "t", leaf, "taxi", f"b{leaf // 4}", f"c/{leaf // 4}",
            (f"{700_000_000_000_000 + leaf // 4}",), b"o%d" % (leaf // 4), (b"p%d" % (leaf // 4),),
        )
        for leaf in range(20_000)
    ])  # fmt: skip
    with index._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("ANALYZE"))
    yield index
    index.close()
