"""Names and digits: exactly one form each, and every other refused with its own reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.allocator import names
from services.allocator.domain import PoolId
from services.runtime.errors import InvalidArgument


@given(st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True))
def test_a_pool_name_comes_back(name: str) -> None:
    pool = PoolId(name, name)
    assert names.pool_id(pool.name) == pool
    assert pool.path == f"{name}/{name}"


@pytest.mark.parametrize(
    "name",
    ["", "tenants/a/pools", "tenants/a/pools/", "tenants/A/pools/b", "tenants/a/pool/b",
     "tenants/a/pools/b/c", "x/a/pools/b", "tenants/1a/pools/b", "tenants/a/pools/" + "b" * 33,
     "tenants/a/pools/b\n", "tenants/é/pools/b"],
)  # fmt: skip
def test_other_pool_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        names.pool_id(name, "parent")
    assert (caught.value.reason, caught.value.metadata["field"]) == ("INVALID_FIELD", "parent")


@given(st.text(max_size=30))
def test_text_is_a_number_or_refused(text: str) -> None:
    good = len(text) == 15 and text.isascii() and text.isdecimal() and text.startswith("700")
    if good:
        assert names.middle_number(text) == text
    else:
        with pytest.raises(InvalidArgument, match="NUMBER_INVALID"):
            names.middle_number(text)


def test_numbers_and_blocks() -> None:
    assert names.number_digits("numbers/700123456789012") == "700123456789012"
    assert names.block_digits("blocks/70012345678") == "70012345678"
    for name in ("700123456789012", "numbers/70012345678901", "numbers/７00123456789012"):
        with pytest.raises(InvalidArgument, match="NUMBER_INVALID"):
            names.number_digits(name)
    for name in ("70012345678", "blocks/70112345678", "blocks/7001234567", "blocks/700123456789"):
        with pytest.raises(InvalidArgument, match="BLOCK_INVALID"):
            names.block_digits(name)


@pytest.mark.parametrize("area", ["440000", "440300", "110000", "659900"])
def test_an_area_is_a_province_or_a_city(area: str) -> None:
    assert names.area_code(area, "x") == area


@pytest.mark.parametrize("area", ["", "44030", "440301", "040300", "4403000", "４40300", "gd0300"])
def test_other_areas_are_refused(area: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        names.area_code(area, "block.area")
    assert (caught.value.reason, caught.value.metadata["field"]) == ("AREA_INVALID", "block.area")


def test_a_tenant_stands_alone() -> None:
    assert names.tenant_name("tenants/didi") == "didi"
    for name in ("didi", "tenants/", "tenants/didi/pools/x", "tenants/Didi"):
        with pytest.raises(InvalidArgument, match="INVALID_FIELD"):
            names.tenant_name(name)
