"""Errors on the wire: the one table from what a caller must do to a gRPC status, and back.

A status carries google.rpc.ErrorInfo (reason, domain, metadata) and, where waiting helps,
google.rpc.RetryInfo. Refuses to pass on the text of an unknown exception, to the caller or to the
log: it may hold a person's number. The caller gets INTERNAL with an incident id; the log gets the
same id, the exception's types and the frames.

Invariant: nothing leaves here that was not declared safe, and even that is redacted once more.
"""

import secrets
import string
import traceback
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.runtime import errors
from services.runtime.errors import AxbridgeError
from services.runtime.redaction import redact_text
from services.runtime.telemetry import logger

DOMAIN: Final = "axbridge.dev"
CODES: Final[Mapping[type[AxbridgeError], grpc.StatusCode]] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
_CLASSES: Final[Mapping[grpc.StatusCode, type[AxbridgeError]]] = {
    **{code: kind for kind, code in CODES.items()},
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
}
_LOG: Final = logger(__name__)


def code_of(error: BaseException) -> grpc.StatusCode:
    """The code that the error goes out with; sub-classes take the code of their nearest parent."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def to_status(error: BaseException, method: str = "") -> grpc.Status:
    """The status for an error that leaves a handler; see `status_of`."""
    return rpc_status.to_status(status_of(error, method))


def status_of(error: BaseException, method: str = "") -> status_pb2.Status:
    """The error as a message, e.g. in a batch's result. Logs it if it is a failure of ours.

    Call it once, at the edge: each call for an unknown exception is an incident of its own.
    """
    if type(error) is NotImplementedError:  # generated servicers raise it for an rpc left out
        error = errors.Unimplemented("UNIMPLEMENTED")
    if not isinstance(error, AxbridgeError) or isinstance(error, errors.ConsumerError):
        error = _incident(error, method)
    elif isinstance(error, errors.Internal | errors.DataLoss):
        _LOG.error("rpc failed", method=method, error=str(error), **_trace(error))
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=DOMAIN,
        metadata={key: redact_text(value) for key, value in error.metadata.items()},
    )
    status = status_pb2.Status(
        code=code_of(error).value[0],
        message=redact_text(error.message or error.reason),
        details=[_packed(info)],
    )
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(error.retry_after)
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def reason_of(error: grpc.RpcError) -> str:
    """The reason of an error as a client received it, or "" where it carries none of ours."""
    info = error_details_pb2.ErrorInfo()
    for detail in _details(error):
        if detail.Unpack(info) and info.domain == DOMAIN:
            return str(info.reason)
    return ""


def error_from_rpc(error: grpc.RpcError) -> AxbridgeError:
    """The error that a neighbour answered, as one of ours: what it told us to do, we may do.

    Without details of ours (a proxy, a lost connection) the reason is the name of the code. The
    neighbour's text is dropped, only reason, metadata and the time to wait are taken over.
    """
    code = error.code() if isinstance(error, grpc.Call) else _aio_code(error)
    return _told(code, _details(error))


def error_from_status(status: status_pb2.Status) -> AxbridgeError:
    """The error of one item among many, as `error_from_rpc` takes that of a call."""
    code = next((c for c in grpc.StatusCode if c.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    return _told(code, status.details)


def _told(code: grpc.StatusCode, details: Iterable[any_pb2.Any]) -> AxbridgeError:
    kind = _CLASSES.get(code, errors.Internal)
    reason, metadata, wait = code.name, dict[str, str](), None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = info.reason
            metadata = {key: value for key, value in info.metadata.items() if key != "retry_after"}
        elif detail.Unpack(retry):
            wait = timedelta(seconds=retry.retry_delay.seconds) + timedelta(
                microseconds=retry.retry_delay.nanos // 1000
            )
    try:
        return kind(reason, retry_after=wait, **metadata)
    except ValueError:  # a neighbour's reason that is not of our form
        return kind(code.name, retry_after=wait)


def _incident(error: BaseException, method: str) -> errors.Internal:
    # Letters only: a run of digits could be masked as a person's number, in the log or the answer.
    incident = "".join(secrets.choice(string.ascii_lowercase) for _ in range(24))
    _LOG.error("rpc failed", method=method, incident=incident, **_trace(error))
    return errors.Internal("INTERNAL", "internal error", incident=incident)


def _trace(error: BaseException) -> dict[str, Any]:
    """Types and frames of an exception and of what caused it; never a text, never a value."""
    types, frames = list[str](), list[str]()
    link: BaseException | None = error
    while link is not None and len(types) < 8:
        types.append(f"{type(link).__module__}.{type(link).__qualname__}")
        frames += [
            f"{'/'.join(PurePath(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(link.__traceback__, limit=-12)
        ]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return {"types": types, "frames": frames}


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _aio_code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN


def _details(error: grpc.RpcError) -> list[any_pb2.Any]:
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return []
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # both have what it reads
    except Exception:  # details that do not agree with the status, or are none: as if absent
        return []
    return list(status.details) if status is not None else []
