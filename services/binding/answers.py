"""What every use case does with what stands: find it, wait for Kafka, answer a repetition. Pure.

Refuses to show a binding of another tenant, or one that was erased. Invariant: whatever a caller is
told of is on Kafka.
"""

from typing import Final, NamedTuple

from services.binding.domain import Binding
from services.binding.ports import Answer, Bindings, Stored
from services.runtime.clock import Clock
from services.runtime.errors import AlreadyExists, AxbridgeError, NotFound

WAIT_SECONDS: Final = 5.0
_MARGIN_SECONDS: Final = 0.1  # the answer, LOG_UNAVAILABLE included, arrives inside the deadline


class Applied(NamedTuple):
    """What a command led to, and what to wait for before anybody is told of it."""

    binding: Binding
    sequence: int


class Answers:
    """`deadline` is on the clock's monotonic scale."""

    def __init__(self, bindings: Bindings, clock: Clock) -> None:
        self._bindings = bindings
        self._clock = clock

    async def stored(self, tenant: str, binding: str) -> Stored:
        """The binding. Raises NotFound (BINDING_NOT_FOUND), also for another tenant's."""
        stored = await self._bindings.get(binding)
        if stored is None or stored.binding.tenant != tenant or stored.binding.restricted:
            raise _not_found(binding)
        return stored

    async def instead(
        self, why: AxbridgeError, tenant: str, request_id: str, body: bytes
    ) -> Applied:
        """The answer that the request had before, else raises `why`."""
        answer = await self._bindings.answered(tenant, request_id)
        if answer is None:
            raise why
        return await self.again(answer, body)

    async def again(self, answer: Answer, body: bytes) -> Applied:
        """The answer to a repeated request: the binding as it stands now."""
        if answer.body_hash != body:
            raise AlreadyExists("REQUEST_ID_REUSED", "the request id came with another body")
        stored = await self._bindings.get(answer.binding)
        if stored is None or stored.binding.restricted:
            raise _not_found(answer.binding)
        return Applied(stored.binding, stored.sequence)

    async def told(self, applied: Applied, deadline: float) -> Binding:
        """The binding, once Kafka has it. Raises Unavailable (LOG_UNAVAILABLE)."""
        await self._bindings.published(applied.sequence, self.left(deadline))
        return applied.binding

    def left(self, deadline: float) -> float:
        """Seconds that may still be waited."""
        return max(0.0, min(WAIT_SECONDS, deadline - self._clock.monotonic() - _MARGIN_SECONDS))


def _not_found(binding: str) -> NotFound:
    return NotFound("BINDING_NOT_FOUND", "no such binding", binding=binding)
