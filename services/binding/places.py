"""Where a cell keeps a binding: the keys of its record, its number, its indexes and requests.

Refuses a real number or a clear order id: tags only. Invariant: a temporary callee is on no number
and in no index: it did not agree to be bound.
"""

from services.binding.domain import REMEMBERED_MS, Binding, Mode
from services.runtime.cell import Argument, Cell


class Places:
    """The keys of a cell, which carry its hash tag."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def binding(self, binding: str) -> str:
        """Of a binding's record."""
        return self._cell.key("binding", binding)

    def tags(self, number: str) -> str:
        """Of the parties and extensions that stand or rest on a number."""
        return self._cell.key("tags", number)

    def index(self, tenant: str, kind: str, value: str) -> str:
        """Of an index; see ports.Index."""
        return self._cell.key("by", kind, tenant, value)

    def request(self, tenant: str, request_id: str) -> str:
        """Of what a request led to."""
        return self._cell.key("request", tenant, request_id)

    def of(self, binding: Binding, order_tag: str) -> list[str]:
        """Keys 3 to 11 of store/apply.lua."""
        tenant, number = binding.tenant, binding.number
        by_number = self.index(tenant, "number", number)
        return [
            self.binding(binding.id),
            self._cell.key("number", number),
            self.tags(number),
            by_number,
            self.index(tenant, "order", order_tag) if order_tag else by_number,
            self.index(tenant, "party", binding.tag_a.hex()),
            self.index(tenant, "party", (party_b(binding) or binding.tag_a).hex()),
            self._cell.key("expiry"),
            self._cell.key("forget"),
        ]

    def answers(self, binding: Binding, now: int) -> tuple[list[str], list[Argument]]:
        """The keys of the requests that the binding answers at a time; body hash and remaining life
        (0: the binding's own) of each."""
        keys: list[str] = []
        args: list[Argument] = []
        for place, each in enumerate(binding.requests):
            left = each.time_ms + REMEMBERED_MS - now if place else 0
            if left >= 0:
                keys.append(self.request(binding.tenant, each.request_id))
                args += (each.body_hash, left)
        return keys, args


def party_b(binding: Binding) -> bytes:
    """The tag of B where B is on the number; empty: nobody is."""
    return b"" if binding.terms.mode is Mode.AX else binding.tag_b


def mode(binding: Binding) -> str:
    """The mode as the functions know it: nothing for AXB, else its name and what it holds."""
    terms = binding.terms
    if terms.mode is Mode.AXB:
        return ""
    if terms.mode is Mode.AXYB:
        return f"AXYB:{binding.second}:{binding.second_epoch}"
    return f"{terms.mode.name}:{terms.options.extension}"


def rest(binding: Binding) -> Argument:
    """Argument 7 of store/apply.lua."""
    if not binding.exclusive:
        return ""
    return binding.pair_cooling_ms - binding.cooling_ms if binding.pair_cooling_ms else -1
