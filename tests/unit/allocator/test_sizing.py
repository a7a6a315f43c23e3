"""What a load needs, and how long a pool lasts."""

from hypothesis import given
from hypothesis import strategies as st

from services.allocator.domain import DAY_MS, UNKNOWN, Outlook, Policy
from services.allocator.sizing import Load, advise, outlook

HOUR_MS = 3_600_000


def test_ten_million_orders_a_day_that_live_three_days() -> None:
    """The figures of domain.md."""
    load = Load(Policy.EXCLUSIVE, 10_000_000, 3 * DAY_MS, 0)
    assert (advise(load).places, advise(load).blocks) == (30_000_000, 3000)
    shared = Load(Policy.SHARED, 10_000_000, 3 * DAY_MS, 0)
    assert (advise(shared).numbers, advise(shared).blocks) == (150_000, 15)
    rested = advise(Load(Policy.EXCLUSIVE, 10_000_000, 3 * DAY_MS, DAY_MS))
    assert rested.blocks == 4000, "a number that cools is held too"


def test_the_busiest_party_counts_where_it_needs_more() -> None:
    load = Load(Policy.SHARED, 1000, HOUR_MS, 3 * HOUR_MS, most_of_one_party=5000)
    found = advise(load)
    assert (found.places, found.numbers_of_one_party) == (167, 20_000)
    assert (found.numbers, found.blocks) == (20_000, 2)


@given(
    st.sampled_from(Policy),
    st.integers(1, 10**9),
    st.integers(1000, 366 * DAY_MS),
    st.integers(0, 90 * DAY_MS),
    st.integers(1, 10**6),
)
def test_an_advice_is_the_least_that_holds_the_load(
    policy: Policy, orders: int, life: int, cooling: int, most: int
) -> None:
    found = advise(Load(policy, orders, life, cooling, most))
    pairs = 200 if policy is Policy.SHARED else 1

    def holds(numbers: int) -> bool:
        fits = numbers * pairs * DAY_MS >= orders * (life + cooling)
        return fits and numbers * life >= most * (life + cooling)

    assert holds(found.numbers)
    assert not holds(found.numbers - 1)
    assert (found.blocks - 1) * 10_000 < found.numbers <= found.blocks * 10_000


def test_how_long_a_pool_lasts() -> None:
    assert outlook(100, 50, 40, HOUR_MS) == Outlook(10, 10 * HOUR_MS)
    assert outlook(100, 50, 45, HOUR_MS // 2) == Outlook(10, 10 * HOUR_MS)
    assert outlook(0, 50, 40, HOUR_MS) == Outlook(10, 0)
    assert outlook(100, 40, 40, HOUR_MS) == UNKNOWN, "for ever"
    assert outlook(100, 40, 50, HOUR_MS) == Outlook(-10, None)
    assert outlook(100, 50, 40, 59_999) == UNKNOWN, "not known yet"
