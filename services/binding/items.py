"""Items of batches and streams to commands, and their outcomes to results. Pure and total.

Refuses a whole batch only for its size or its tenant: what is wrong with an item is that item's
outcome. Invariant: an item is read by the same function as its own rpc's request.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from axbridge.binding.v1 import binding_service_pb2 as pb

from services.binding import translate
from services.binding.batches import Item, Outcome
from services.binding.commands import Command, Find, Release
from services.runtime.errors import AxbridgeError, InvalidArgument
from services.runtime.status import status_of

_MOST: Final = 1000


def creates(request: pb.BatchCreateBindingsRequest) -> Sequence[Item]:
    """Raises InvalidArgument: BATCH_SIZE_INVALID, INVALID_FIELD."""

    def read(item: pb.CreateBindingRequest) -> Command:
        item.parent = item.parent or request.parent
        return translate.create(item)

    return _items(request, read, "parent")


def updates(request: pb.BatchUpdateBindingsRequest) -> Sequence[Item]:
    """Raises InvalidArgument: BATCH_SIZE_INVALID, INVALID_FIELD."""
    return _items(request, translate.update, "name")


def releases(request: pb.BatchReleaseBindingsRequest) -> Sequence[Item]:
    """Raises InvalidArgument: BATCH_SIZE_INVALID, INVALID_FIELD."""
    return _items(request, _release, "name")


def order(request: pb.ReleaseOrderRequest) -> Find:
    """Raises InvalidArgument: INVALID_FIELD."""
    listed = pb.ListBindingsRequest(
        parent=request.parent, order_id=request.order_id, page_size=request.page_size or _MOST,
        page_token=request.page_token,
    )  # fmt: skip
    return translate.find(listed)


def streamed(message: pb.StreamBindingsRequest) -> Sequence[Item]:
    """The items of a message; its size was checked as it was read."""
    return [_read(item, _operation) for item in message.items]


def size(message: pb.StreamBindingsRequest) -> int:
    """How many items. Raises InvalidArgument: BATCH_SIZE_INVALID."""
    return _sized(message.items)


def result(outcome: Outcome, method: str, name: str = "") -> pb.BindingResult:
    """The outcome as answered; `name`: the binding's, where the item named one."""
    if isinstance(outcome, Exception):
        return pb.BindingResult(name=name, error=status_of(outcome, method))
    shown = translate.resource(outcome)
    return pb.BindingResult(name=shown.name, binding=shown)


def results(requests: Any, outcomes: Sequence[Outcome], method: str) -> Sequence[pb.BindingResult]:
    """A result per request; a request that names a binding, names its result."""
    return [
        result(outcome, method, getattr(request, "name", ""))
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


def stream_results(
    message: pb.StreamBindingsRequest, outcomes: Sequence[Outcome], method: str
) -> pb.StreamBindingsResponse:
    """The answer to a message of a stream."""
    requests = [getattr(item, item.WhichOneof("operation") or "create") for item in message.items]
    found = results(requests, outcomes, method)
    return pb.StreamBindingsResponse(
        results=[
            pb.StreamResult(sequence=item.sequence, result=each)
            for item, each in zip(message.items, found, strict=True)
        ]
    )


def _operation(item: pb.StreamItem) -> Command:
    match item.WhichOneof("operation"):
        case "create":
            return translate.create(item.create)
        case "update":
            return translate.update(item.update)
        case "release":
            return _release(item.release)
        case _:
            raise InvalidArgument("INVALID_FIELD", "nothing to do", field="operation")


def _release(request: pb.ReleaseBindingRequest) -> Release:
    return Release(*translate.release(request))


def _items(request: Any, read: Callable[[Any], Command], field: str) -> Sequence[Item]:
    tenant = translate.tenant(request.parent)
    _sized(request.requests)

    def own(item: Any) -> Command:
        command = read(item)
        if command.tenant != tenant:
            raise InvalidArgument("INVALID_FIELD", "not of the batch's tenant", field=field)
        return command

    return [_read(item, own) for item in request.requests]


def _read(item: Any, read: Callable[[Any], Command]) -> Item:
    try:
        return read(item)
    except AxbridgeError as refusal:
        return refusal


def _sized(items: Sequence[Any]) -> int:
    if not 1 <= len(items) <= _MOST:
        raise InvalidArgument("BATCH_SIZE_INVALID", "1 to 1,000 items", limit=str(_MOST))
    return len(items)
