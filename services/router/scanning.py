"""Who dials numbers at random, to find those that are bound. Pure.

A caller (on one trunk of one carrier) whose calls meet no binding too often in a minute is stopped
for the rest of it and the next one. Refuses to count callers without a number: they reach nobody.
Each worker counts what it sees. Invariant: bounded memory, and no number in it.
"""

from typing import Final

from services.router.domain import Call, Refusal

_WINDOW_MS: Final = 60_000
_MOST: Final = 65_536  # callers counted in a minute; beyond, no new ones
MISSES: Final = frozenset({
    Refusal.DIALLED_INVALID, Refusal.BLOCK_FOREIGN, Refusal.NOT_BOUND, Refusal.EXTENSION_UNKNOWN,
})  # fmt: skip


class Scanning:
    """Counts misses; `limit` 0: stops nobody. Threads may share it: a count that is lost between
    them matters to nobody."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._window = 0
        self._counts: dict[int, int] = {}
        # Replaced as a whole. Empty nearly always, which is what a call looks at.
        self.stopped: frozenset[int] = frozenset()

    def missed(self, call: Call, caller: str, now_ms: int) -> None:
        """A call of the caller (E.164, or empty) met no binding."""
        if not caller or not self._limit:
            return
        self._turn(now_ms)
        who = _who(call, caller)
        count = self._counts.get(who, 0) + 1
        if count > 1 or len(self._counts) < _MOST:
            self._counts[who] = count
        if count >= self._limit:
            self.stopped |= {who}

    def stops(self, call: Call, caller: str, now_ms: int) -> bool:
        """Whether the caller is stopped."""
        self._turn(now_ms)
        return bool(caller) and _who(call, caller) in self.stopped

    def _turn(self, now_ms: int) -> None:
        window = now_ms // _WINDOW_MS
        if window != self._window:
            over = {who for who, count in self._counts.items() if count >= self._limit}
            self.stopped = frozenset(over if window == self._window + 1 else ())
            self._window, self._counts = window, {}


def _who(call: Call, caller: str) -> int:
    # The process's own random hash: nobody can aim at another's, and no number is kept.
    return hash((call.carrier, call.trunk, caller))
