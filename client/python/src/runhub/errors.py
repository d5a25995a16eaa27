"""The errors of the client, with a class for each reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from runhub.v1 import ErrorReason

# The `domain` in the ErrorInfo of every error that a Runhub server returns.
_DOMAIN = "runhub"
_DETAILS_KEY = "grpc-status-details-bin"

M = TypeVar("M", bound=Message)

_class_by_reason: dict[str, type[Error]] = {}


class FieldProblem(NamedTuple):
    """An invalid field of a request, and what is wrong with it."""

    field: str
    problem: str


def reason_name(reason: ErrorReason) -> str:
    """Returns the text that an ErrorInfo has for this reason, such as `STALE_LEASE`."""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


# The base class is AioRpcError in both clients: grpc.aio passes on no other exception from an interceptor, and for
# threads AioRpcError is a grpc.RpcError as well.
class Error(grpc.aio.AioRpcError):
    """A call failed: the server refused it, or the request or its answer was lost.

    Each value of `runhub.v1.ErrorReason` has a subclass, such as `StaleLease`. If the server returns a reason that this
    client does not know, the error is a plain `Error` with the reason's text. `code()` returns the gRPC status code.
    """

    reason: str | None
    """Why the server refused the call, such as `STALE_LEASE`. The protos list the reasons of each RPC. None if the call
    did not reach the server's handler, or if the answer was lost."""
    message: str
    """An explanation for people. Programs must not parse it."""
    metadata: dict[str, str]
    """Further facts about the error, as `runhub.v1.ErrorReason` documents them."""
    fields: list[FieldProblem]
    """The invalid fields of the request."""
    retry_delay: float | None
    """How many seconds to wait before repeating the call. None if the server gives no delay."""

    def __init_subclass__(cls, *, reason: ErrorReason | None = None) -> None:
        if reason is not None:
            _class_by_reason[reason_name(reason)] = cls

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        fields: Iterable[FieldProblem] = (),
        retry_delay: float | None = None,
    ) -> None:
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(), message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.fields = list(fields)
        self.retry_delay = retry_delay

    @property
    def is_passing(self) -> bool:
        """Whether the same call may succeed later: the server is down, shutting down or overloaded, or the connection
        broke."""
        # grpcio reports every broken connection as UNAVAILABLE.
        return self.code() is grpc.StatusCode.UNAVAILABLE or self.reason == _OVERLOADED

    def __str__(self) -> str:
        return f"{self.reason or self.code().name}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes pass errors to their parent by pickling them.
        return type(self), (self.code(), self.message, self.reason, self.metadata, self.fields, self.retry_delay)


_OVERLOADED = reason_name(ErrorReason.ERROR_REASON_OVERLOADED)


class InvalidField(Error, reason=ErrorReason.ERROR_REASON_INVALID_FIELD):
    """A field of the request is missing, malformed, or over a limit: see `fields`."""


class DependencyCycle(Error, reason=ErrorReason.ERROR_REASON_DEPENDENCY_CYCLE):
    """The dependencies of the tasks form a cycle."""


class RequestIdReused(Error, reason=ErrorReason.ERROR_REASON_REQUEST_ID_REUSED):
    """The request_id was used before with other content."""


class RunNotFound(Error, reason=ErrorReason.ERROR_REASON_RUN_NOT_FOUND):
    """No run has this id. The run may have been deleted."""


class TaskNotFound(Error, reason=ErrorReason.ERROR_REASON_TASK_NOT_FOUND):
    """No task has this id, or the task belongs to another run."""


class ApprovalNotFound(Error, reason=ErrorReason.ERROR_REASON_APPROVAL_NOT_FOUND):
    """No approval has this id."""


class CheckpointNotFound(Error, reason=ErrorReason.ERROR_REASON_CHECKPOINT_NOT_FOUND):
    """No checkpoint has this id."""


class StaleLease(Error, reason=ErrorReason.ERROR_REASON_STALE_LEASE):
    """The lease token no longer names the task's current attempt: the task was requeued, moved, or claimed again."""


class LeaseRequired(Error, reason=ErrorReason.ERROR_REASON_LEASE_REQUIRED):
    """An agent holds the task, so the call needs the agent's lease_token."""


class WrongStatus(Error, reason=ErrorReason.ERROR_REASON_WRONG_STATUS):
    """The status of the run or task does not allow this call: `metadata` has the current_status."""


class RunEnded(Error, reason=ErrorReason.ERROR_REASON_RUN_ENDED):
    """The run has ended or is being cancelled, so it takes no new work."""


class AlreadyDecided(Error, reason=ErrorReason.ERROR_REASON_ALREADY_DECIDED):
    """The approval is no longer pending: `metadata` has its verdict and the source of the decision."""


class NotApproved(Error, reason=ErrorReason.ERROR_REASON_NOT_APPROVED):
    """The approval's verdict is not APPROVED, so it can't be consumed."""


class AlreadyConsumed(Error, reason=ErrorReason.ERROR_REASON_ALREADY_CONSUMED):
    """The approval was consumed before."""


class DigestMismatch(Error, reason=ErrorReason.ERROR_REASON_DIGEST_MISMATCH):
    """The digest in the request differs from the approval's subject_digest."""


class SnapshotTooLarge(Error, reason=ErrorReason.ERROR_REASON_SNAPSHOT_TOO_LARGE):
    """The run's snapshot is over 16 MiB. Request fewer events, attempts and tasks."""


class RevisionMismatch(Error, reason=ErrorReason.ERROR_REASON_REVISION_MISMATCH):
    """The resource has changed since it was read. Read it again, then retry."""


class PlanVersionMismatch(Error, reason=ErrorReason.ERROR_REASON_PLAN_VERSION_MISMATCH):
    """The plan was replaced since it was read. Read it again, then retry."""


class PositionInFuture(Error, reason=ErrorReason.ERROR_REASON_POSITION_IN_FUTURE):
    """The cursor is above every position of this log."""


class PositionCompacted(Error, reason=ErrorReason.ERROR_REASON_POSITION_COMPACTED):
    """Retention has removed events after the cursor: `metadata` has the oldest_position."""


class Overloaded(Error, reason=ErrorReason.ERROR_REASON_OVERLOADED):
    """More calls are waiting than the server admits."""


class Draining(Error, reason=ErrorReason.ERROR_REASON_DRAINING):
    """The server is shutting down."""


class StoreBusy(Error, reason=ErrorReason.ERROR_REASON_STORE_BUSY):
    """Another program holds the server's database."""


class Internal(Error, reason=ErrorReason.ERROR_REASON_INTERNAL):
    """The server has a bug or a failing disk. Its log has the cause under the id in the message."""


class OtherLog(Error):
    """The server's log is not the one that the subscription follows, so the subscription's cursor is not valid in
    it."""

    def __init__(self) -> None:
        text = "the server's log_id has changed, so the subscription's cursor is not valid: subscribe without a cursor"
        super().__init__(grpc.StatusCode.FAILED_PRECONDITION, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class Closed(Error):
    """The client is closed. Callers see it as an `Error` without a reason and with the gRPC code CANCELLED."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.CANCELLED, "the client is closed")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


Because: TypeAlias = Literal["taken", "unanswered", "refused"]

_LOST_TEXTS: dict[Because, str] = {
    "taken": "the lease is lost: the task was requeued, moved, or claimed by another agent",
    "unanswered": "the lease may be lost: the server has answered no heartbeat for a whole lease duration",
    "refused": "the lease can't be kept: the server refuses its heartbeats",
}


class LeaseLost(Exception):
    """The lease was lost while the work was running.

    `__cause__` is the error of the last heartbeat, or None if the server answered it.
    """

    because: Because
    """Why the lease is lost. `taken`: the server would reject a report. `unanswered`: another agent may hold the task;
    the server still accepts a report if no agent has claimed the task. `refused`: the server would refuse the heartbeat
    again, for example because its progress is over 1 MiB."""

    def __init__(self, because: Because) -> None:
        super().__init__(because)
        self.because = because

    def __str__(self) -> str:
        return _LOST_TEXTS[self.because]


def error_of(failure: grpc.RpcError) -> Error:
    """Converts gRPC's error to the client's error."""
    code = failure.code()
    message = failure.details() or ""
    status = _status(failure)
    info = _detail(status, ErrorInfo)
    if info is None or info.domain != _DOMAIN:
        return Error(code, message)
    bad_request = _detail(status, BadRequest)
    retry = _detail(status, RetryInfo)
    violations = bad_request.field_violations if bad_request else ()
    return _class_by_reason.get(info.reason, Error)(
        code,
        message,
        info.reason,
        info.metadata,
        [FieldProblem(violation.field, violation.description) for violation in violations],
        retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
    )


def _status(failure: grpc.RpcError) -> Status:
    status = Status()
    # The stub's type of the trailing metadata omits that it may be None and that its entries are pairs.
    trailers = cast("Iterable[tuple[str, str | bytes]] | None", failure.trailing_metadata())
    for key, value in trailers or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status.ParseFromString(value)
    return status


def _detail(status: Status, kind: type[M]) -> M | None:
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None
