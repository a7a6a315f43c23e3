"""Routes in a cell: implements ports.RouteFold. Positions and effects are one function call."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from services.allocator.domain import RouteChange
from services.allocator.ports import Contradicted, Position
from services.runtime.cell import Argument, Cell, unavailable
from services.runtime.topics import BINDING_ROUTES

_FIELDS: Final = f"{BINDING_ROUTES.name}/"


class CellRouteFold:
    """See ports.RouteFold. With a `store_epoch` it works in a store that is healing."""

    def __init__(self, cell: Cell, store_epoch: bytes | None = None) -> None:
        self._cell = cell
        self._epoch = store_epoch

    async def positions(self) -> Mapping[Position, int]:
        key = self._cell.key("positions")
        try:
            found: Mapping[Any, Any] = await self._cell.redis.hgetall(key)
        except RedisError:
            raise unavailable("STORE_UNAVAILABLE") from None
        return {
            (BINDING_ROUTES.name, int(field.decode().removeprefix(_FIELDS))): int(offset)
            for field, offset in found.items()
            if field.decode().startswith(_FIELDS)
        }

    async def forget_positions(self) -> None:
        """Begins again. What is folded stays: folding it again changes nothing."""
        fields = [_FIELDS + str(partition) for _, partition in await self.positions()]
        if fields:
            await self._cell.redis.hdel(self._cell.key("positions"), *fields)

    async def follow(
        self,
        items: Sequence[tuple[Position, int, RouteChange]],
        moved: Mapping[Position, tuple[int, int]],
    ) -> bool:
        places = {position: place for place, position in enumerate(moved, start=1)}
        args: list[Argument] = [len(moved)]
        for (topic, partition), (start, end) in moved.items():
            args += (f"{topic}/{partition}", start, end)
        for position, offset, change in items:
            args += (
                places[position],
                offset,
                change.state.value,
                change.number,
                change.binding,
                change.version,
                change.lease_epoch,
                change.cool_until_ms,
                b"".join(change.tags),
            )
        if self._epoch is None:
            reply = await self._cell.call("follow", args=args)
        else:
            reply = await self._cell.call_as(self._epoch, "follow", args=args)
        if reply[0] == b"CONTRADICTED":
            raise Contradicted([int(place) for place in reply[1:]])
        return bool(reply[0] == b"OK")
