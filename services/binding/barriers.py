"""What a create is checked against beside its number: consents and blacklists of the tenant.

Refuses to decide in Python: store/barred.lua does, inside the function that creates. Invariant:
what is remembered here only saves a read; a create that rests on it is judged anew.
"""

from typing import Final

from services.binding.domain import Binding
from services.binding.ports import ConsentsChanged
from services.binding.replies import refuse
from services.runtime.cell import Argument, Cell

_REMEMBERED: Final = 10_000  # tenants


class Barriers:
    """The marks of a cell, for creates."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._without: set[str] = set()  # tenants that had neither consents nor a policy

    async def consented(self, tenant: str, pool: str, tags: tuple[bytes, bytes]) -> tuple[str, str]:
        """See ports.Bindings."""
        if tenant in self._without:
            return "", ""
        key = self._cell.key("consents", tenant)
        reply = await self._cell.call("consented", [key], [*tags, pool])
        refuse(reply)
        _, a, b, any_ = reply
        if any_ == b"0" and len(self._without) < _REMEMBERED:
            self._without.add(tenant)
        return a.decode(), b.decode()

    def keys(self, tenant: str) -> tuple[str, str]:
        """The keys that a create is checked by."""
        return self._cell.key("consents", tenant), self._cell.key("blacklist", tenant)

    @staticmethod
    def args(binding: Binding) -> list[Argument]:
        """What it says of itself."""
        terms = binding.terms
        return [binding.consent_a, binding.consent_b, terms.pool, terms.direction.value]

    def changed(self, tenant: str) -> ConsentsChanged:
        """A create named other consents than are in force."""
        self._without.discard(tenant)
        return ConsentsChanged()
