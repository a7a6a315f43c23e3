"""Values of the domain: what they show of themselves, and what follows from them."""

from services.allocator.domain import Import, Policy, Pool, PoolId, RouteChange, RouteState, Wish


def test_no_tag_in_a_repr() -> None:
    tag = b"secret-secret-16"
    change = RouteChange(RouteState.ACTIVE, "700123456789012", "b", 1, 1, 0, (tag,))
    held = Import("700123456789012", "id", 1, (tag,))
    assert "secret" not in repr(Wish((tag,), ())) + repr(change) + repr(held)


def test_what_rests_after_a_binding() -> None:
    def pool(policy: Policy, pair: int) -> Pool:
        return Pool(PoolId("a", "b"), policy, 10, 0, pair)

    assert pool(Policy.SHARED, 25).rest_ms == 25  # the parties
    assert pool(Policy.EXCLUSIVE, 25).rest_ms == 10  # the number
    assert pool(Policy.EXCLUSIVE, 0).rest_ms == 10
