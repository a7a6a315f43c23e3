"""Names and digits: exactly one form each, and every other refused with its own reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.allocator import domain
from services.allocator.domain import PoolId, RouteChange, RouteState, Wish
from services.runtime.errors import InvalidArgument


@given(st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True))
def test_a_pool_name_comes_back(name: str) -> None:
    pool = PoolId(name, name)
    assert domain.pool_id(pool.name) == pool
    assert pool.path == f"{name}/{name}"


@pytest.mark.parametrize(
    "name",
    ["", "tenants/a/pools", "tenants/a/pools/", "tenants/A/pools/b", "tenants/a/pool/b",
     "tenants/a/pools/b/c", "x/a/pools/b", "tenants/1a/pools/b", "tenants/a/pools/" + "b" * 33,
     "tenants/a/pools/b\n", "tenants/é/pools/b"],
)  # fmt: skip
def test_other_pool_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        domain.pool_id(name, "parent")
    assert (caught.value.reason, caught.value.metadata["field"]) == ("INVALID_FIELD", "parent")


@given(st.text(max_size=30))
def test_text_is_a_number_or_refused(text: str) -> None:
    good = len(text) == 15 and text.isascii() and text.isdecimal() and text.startswith("700")
    if good:
        assert domain.middle_number(text) == text
    else:
        with pytest.raises(InvalidArgument, match="NUMBER_INVALID"):
            domain.middle_number(text)


def test_numbers_and_blocks() -> None:
    assert domain.number_digits("numbers/700123456789012") == "700123456789012"
    assert domain.block_digits("blocks/70012345678") == "70012345678"
    for name in ("700123456789012", "numbers/70012345678901", "numbers/７00123456789012"):
        with pytest.raises(InvalidArgument, match="NUMBER_INVALID"):
            domain.number_digits(name)
    for name in ("70012345678", "blocks/70112345678", "blocks/7001234567", "blocks/700123456789"):
        with pytest.raises(InvalidArgument, match="BLOCK_INVALID"):
            domain.block_digits(name)


def test_no_tag_in_a_repr() -> None:
    tag = b"secret-secret-16"
    change = RouteChange(RouteState.ACTIVE, "700123456789012", "b", 1, 1, 0, (tag,))
    assert "secret" not in repr(Wish((tag,), ())) + repr(change)
