"""What becomes of a binding in modes other than AXB. Pure.

Refuses an operation of another mode. Invariant: a temporary callee stands for a minute at most, and
ends with the next change after it.
"""

from dataclasses import replace
from typing import Final

from services.binding.domain import Answered, Binding, Mode, stale
from services.runtime.errors import FailedPrecondition, InvalidArgument

CALLEE_MS: Final = 60_000  # of a temporary callee [vendor]


def named(binding: Binding, tag_b: bytes, request: Answered) -> Binding:
    """A binding of mode AX with a temporary callee, or with none any more.

    Raises:
        FailedPrecondition: BINDING_ENDED, MODE_DIFFERS.
        InvalidArgument: PARTIES_EQUAL.
    """
    now = request.time_ms
    binding.check_changeable(now)
    _check_ax(binding, tag_b)
    return _with_callee(binding, tag_b, now + CALLEE_MS if tag_b else 0, now, request)


def unnamed(binding: Binding, now: int) -> Binding:
    """The binding without the temporary callee whose minute is over."""
    return _with_callee(binding, b"", 0, now, None)


def upgraded(binding: Binding, version: int, tag_b: bytes, request: Answered) -> Binding:
    """A binding of mode AX as one of mode AXB.

    Raises:
        FailedPrecondition: BINDING_ENDED, MODE_DIFFERS. Aborted: VERSION_STALE.
        InvalidArgument: PARTIES_EQUAL.
    """
    binding.check_changeable(request.time_ms)
    if version != binding.version:
        raise stale(binding.version)
    _check_ax(binding, tag_b)
    axb = replace(binding, terms=replace(binding.terms, mode=Mode.AXB))
    return _with_callee(axb, tag_b, 0, request.time_ms, request)


def _check_ax(binding: Binding, tag_b: bytes) -> None:
    if binding.terms.mode is not Mode.AX:
        raise FailedPrecondition(
            "MODE_DIFFERS", "the operation is of mode AX", mode=binding.terms.mode.name
        )
    if tag_b == binding.tag_a:
        raise InvalidArgument("PARTIES_EQUAL", "A and B are the same number")


def _with_callee(
    binding: Binding, tag_b: bytes, until_ms: int, now: int, request: Answered | None
) -> Binding:
    options = replace(binding.terms.options, callee_until_ms=until_ms)
    return binding.next(now, request, terms=replace(binding.terms, options=options), tag_b=tag_b)
