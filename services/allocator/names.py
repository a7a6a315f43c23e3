"""Names of resources and digits, and which of them are well formed. Pure.

Refuses what is not of the one form everything else relies on, each with its own reason. Invariant:
whoever holds what these functions gave need not check it again.
"""

import re
from typing import Final

from services.allocator.domain import PoolId
from services.runtime.errors import InvalidArgument
from services.runtime.selection import is_area

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_BLOCK: Final = re.compile(r"700\d{8}", re.ASCII)
_NUMBER: Final = re.compile(r"700\d{12}", re.ASCII)


def pool_id(name: str, field: str = "name") -> PoolId:
    """The pool that a resource name names. Raises InvalidArgument (INVALID_FIELD)."""
    parts = name.split("/")
    if len(parts) == 4 and parts[0] == "tenants" and parts[2] == "pools":
        tenant, pool = parts[1], parts[3]
        if _NAME.fullmatch(tenant) and _NAME.fullmatch(pool):
            return PoolId(tenant, pool)
    raise InvalidArgument("INVALID_FIELD", "not tenants/{tenant}/pools/{pool}", field=field)


def block_digits(name: str) -> str:
    """The 11 digits in `blocks/{block}`. Raises InvalidArgument (BLOCK_INVALID)."""
    digits = name.removeprefix("blocks/")
    if not name.startswith("blocks/") or not _BLOCK.fullmatch(digits):
        raise InvalidArgument("BLOCK_INVALID", "not blocks/ and 11 digits that begin with 700")
    return digits


def number_digits(name: str) -> str:
    """The 15 digits in `numbers/{number}`. Raises InvalidArgument (NUMBER_INVALID)."""
    if not name.startswith("numbers/"):
        raise InvalidArgument("NUMBER_INVALID", "not numbers/ and 15 digits that begin with 700")
    return middle_number(name.removeprefix("numbers/"))


def middle_number(digits: str) -> str:
    """The digits of a number of the 700 range. Raises InvalidArgument (NUMBER_INVALID)."""
    if not _NUMBER.fullmatch(digits):
        raise InvalidArgument("NUMBER_INVALID", "not 15 digits that begin with 700")
    return digits


def area_code(digits: str, field: str) -> str:
    """A province or city. Raises InvalidArgument (AREA_INVALID)."""
    if not is_area(digits):
        raise InvalidArgument("AREA_INVALID", "not a province or city of 6 digits", field=field)
    return digits


def tenant_name(name: str) -> str:
    """The tenant in `tenants/{tenant}`. Raises InvalidArgument (INVALID_FIELD)."""
    tenant = name.removeprefix("tenants/")
    if not name.startswith("tenants/") or not _NAME.fullmatch(tenant):
        raise InvalidArgument("INVALID_FIELD", "not tenants/{tenant}", field="parent")
    return tenant
