"""Pool mathematics as messages. Pure; total both ways.

Refuses a load that is none, by its field. Invariant: an answer says nothing that the value does
not.
"""

from typing import Final

from axbridge.allocator.v1 import allocator_service_pb2 as service_pb2
from axbridge.allocator.v1 import number_pb2

from services.allocator import domain
from services.allocator.messages import POLICY, duration
from services.allocator.sizing import Advice, Load
from services.allocator.translate import invalid, span

_MOST_ORDERS: Final = 10**12  # a day; seven per person of the world and hour
_MOST_OF_PARTY: Final = 10**9
_LIFE_MS: Final = (1000, 366 * domain.DAY_MS)


def load_in(request: service_pb2.AdvisePoolSizeRequest) -> Load:
    """The load. Raises InvalidArgument."""
    policy = POLICY.get(request.policy)
    if policy is None:
        raise invalid("policy", "EXCLUSIVE or SHARED")
    if not 1 <= request.orders_per_day <= _MOST_ORDERS:
        raise invalid("orders_per_day", "1 to 10^12")
    if not 0 <= request.most_of_one_party <= _MOST_OF_PARTY:
        raise invalid("most_of_one_party", "up to 10^9")
    cooling = domain.DEFAULT_COOLING_MS
    if request.HasField("cooling"):
        cooling = span(request.cooling, (0, domain.COOLING_RANGE_MS[1]), "cooling")
    life = span(request.life, _LIFE_MS, "life")
    return Load(policy, request.orders_per_day, life, cooling, request.most_of_one_party or 1)


def advice_out(advice: Advice) -> number_pb2.PoolAdvice:
    """The message."""
    return number_pb2.PoolAdvice(
        blocks=advice.blocks,
        numbers=advice.numbers,
        places=advice.places,
        numbers_of_one_party=advice.numbers_of_one_party,
    )


def statistics_out(found: domain.Statistics) -> number_pb2.PoolStatistics:
    """The message."""
    outlook = found.outlook
    lower = [upper + 1 for upper in domain.SPREAD]
    upper = [*domain.SPREAD[1:], domain.MAX_PAIRS]
    return number_pb2.PoolStatistics(
        total=found.total,
        free=found.free,
        leased=found.leased,
        bound=found.bound,
        cooling=found.cooling,
        locked=found.locked,
        pairs=found.pairs,
        reserved=found.reserved,
        suspended=found.suspended,
        retired=found.retired,
        pairs_per_number=[
            number_pb2.PairsClass(at_least=least, at_most=most, numbers=numbers)
            for least, most, numbers in zip(lower, upper, found.spread, strict=False)
        ],
        growth_per_hour=outlook.growth_per_hour,
        time_left=None if outlook.left_ms is None else duration(outlook.left_ms),
    )
