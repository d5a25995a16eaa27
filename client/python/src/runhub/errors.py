"""This module defines the errors of the client, with one class for each reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    """Describes an invalid field of a request: `field` names the field, and `problem` explains the error."""

    field: str
    problem: str


def reason_name(reason: ErrorReason) -> str:
    """Returns the text with which the server names the reason in an ErrorInfo, such as `STALE_LEASE`."""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


# The base class is AioRpcError, because grpc.aio passes on no other exception from an interceptor. The blocking client
# can also raise an AioRpcError, because AioRpcError is a subclass of grpc.RpcError.
class Error(grpc.aio.AioRpcError):
    """Reports that a call failed, because the server refused the call or because the request or the response was
    dropped.

    Each value of `runhub.v1.ErrorReason` has a subclass, such as `StaleLease`. If the server returns a reason that this
    client does not know, the error is a plain `Error` with the reason's text. `code()` returns the gRPC status code.
    """

    reason: str | None
    """The reason why the server refused the call, such as `STALE_LEASE`. The protos list the reasons of each RPC. If
    the call did not reach the server's handler, or if the response was dropped, the value is None."""
    message: str
    """An explanation for people. Programs must not parse this text."""
    metadata: dict[str, str]
    """The details of the error. The enum `runhub.v1.ErrorReason` documents the keys for each reason. If the error has
    no details, the dict is empty."""
    fields: list[FieldProblem]
    """The invalid fields of the request. If the server reported no invalid field, the list is empty."""
    retry_delay: float | None
    """The time in seconds to wait before retrying the call. If the server sent no delay, the value is None."""

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
    def is_temporary(self) -> bool:
        """Returns whether the cause of the error is temporary: the server is down, shutting down or overloaded, or the
        connection broke. A retry may then succeed."""
        if self.reason is None:
            return self.code() in _BROKEN_CONNECTION_CODES
        return self.code() is grpc.StatusCode.UNAVAILABLE or self.reason == _OVERLOADED

    def __str__(self) -> str:
        return f"{self.reason or self.code().name}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process pickles an error to pass the error to its parent process.
        return type(self), (self.code(), self.message, self.reason, self.metadata, self.fields, self.retry_delay)


_OVERLOADED = reason_name(ErrorReason.ERROR_REASON_OVERLOADED)

# The codes of an error without a reason that may come from a broken connection. grpcio reports a broken connection as
# UNAVAILABLE. If a proxy resets only the stream, grpcio reports INTERNAL, CANCELLED or UNKNOWN. If a proxy answers
# without a gRPC status, for example with an HTML page, grpcio reports UNAVAILABLE, INTERNAL or UNKNOWN.
_BROKEN_CONNECTION_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    }
)


class InvalidField(Error, reason=ErrorReason.ERROR_REASON_INVALID_FIELD):
    """A field of the request is missing, malformed, or over a limit. `fields` lists the invalid fields."""


class DependencyCycle(Error, reason=ErrorReason.ERROR_REASON_DEPENDENCY_CYCLE):
    """The dependencies of the tasks form a cycle."""


class RequestIdReused(Error, reason=ErrorReason.ERROR_REASON_REQUEST_ID_REUSED):
    """The request_id was already used by a request with different content."""


class RunNotFound(Error, reason=ErrorReason.ERROR_REASON_RUN_NOT_FOUND):
    """No run has the requested id. The run may have been deleted."""


class TaskNotFound(Error, reason=ErrorReason.ERROR_REASON_TASK_NOT_FOUND):
    """No task has the requested id, or the task belongs to another run."""


class ApprovalNotFound(Error, reason=ErrorReason.ERROR_REASON_APPROVAL_NOT_FOUND):
    """No approval has the requested id."""


class CheckpointNotFound(Error, reason=ErrorReason.ERROR_REASON_CHECKPOINT_NOT_FOUND):
    """No checkpoint has the requested id."""


class StaleLease(Error, reason=ErrorReason.ERROR_REASON_STALE_LEASE):
    """The lease token is stale: the task was requeued, ended, or claimed again, so the token does not name the task's
    current attempt."""


class LeaseRequired(Error, reason=ErrorReason.ERROR_REASON_LEASE_REQUIRED):
    """An agent holds the task's lease, so the request must contain the agent's `lease_token`."""


class WrongStatus(Error, reason=ErrorReason.ERROR_REASON_WRONG_STATUS):
    """The status of the run or task does not allow this call. `metadata` contains the `current_status`."""


class RunEnded(Error, reason=ErrorReason.ERROR_REASON_RUN_ENDED):
    """The run has ended or is being cancelled, so the call is not allowed."""


class AlreadyDecided(Error, reason=ErrorReason.ERROR_REASON_ALREADY_DECIDED):
    """The approval is no longer pending. `metadata` contains the `verdict` and the `source` of the decision."""


class NotApproved(Error, reason=ErrorReason.ERROR_REASON_NOT_APPROVED):
    """The approval's verdict is not APPROVED, so the approval can't be consumed."""


class AlreadyConsumed(Error, reason=ErrorReason.ERROR_REASON_ALREADY_CONSUMED):
    """The approval was already consumed. An approval can be consumed only once."""


class DigestMismatch(Error, reason=ErrorReason.ERROR_REASON_DIGEST_MISMATCH):
    """The digest in the request differs from the approval's `subject_digest`, or the approval has no digest."""


class SnapshotTooLarge(Error, reason=ErrorReason.ERROR_REASON_SNAPSHOT_TOO_LARGE):
    """GetRunSnapshot: the run's snapshot is larger than 16 MiB. Set `task_limit`, `approval_limit` or `artifact_limit`,
    or subscribe with FROM_SNAPSHOT. SubscribeEvents: the server could not read the snapshot within 10 s. Set
    `task_limit`, `approval_limit` or `artifact_limit`."""


class RevisionMismatch(Error, reason=ErrorReason.ERROR_REASON_REVISION_MISMATCH):
    """The run, agent state or approval was changed after the caller read its `revision`. Read the current revision,
    then retry."""


class PlanVersionMismatch(Error, reason=ErrorReason.ERROR_REASON_PLAN_VERSION_MISMATCH):
    """The run's plan was changed after the caller read the `plan_version`. Read the current plan, then retry."""


class PositionInFuture(Error, reason=ErrorReason.ERROR_REASON_POSITION_IN_FUTURE):
    """The cursor is greater than every position in the server's log."""


class PositionCompacted(Error, reason=ErrorReason.ERROR_REASON_POSITION_COMPACTED):
    """Retention has removed events after the cursor. `metadata` contains the `oldest_position`."""


class Overloaded(Error, reason=ErrorReason.ERROR_REASON_OVERLOADED):
    """The server has refused the call, because the maximum number of calls, or the memory for requests and responses,
    was reached."""


class Draining(Error, reason=ErrorReason.ERROR_REASON_DRAINING):
    """The server is shutting down."""


class StoreBusy(Error, reason=ErrorReason.ERROR_REASON_STORE_BUSY):
    """Another program holds a lock on the server's database."""


class Internal(Error, reason=ErrorReason.ERROR_REASON_INTERNAL):
    """The server has a bug or a failing disk. The server's log contains the cause under the id in `message`."""


class RequestIncomplete(Error, reason=ErrorReason.ERROR_REASON_REQUEST_INCOMPLETE):
    """The server did not receive the whole request in time, so the call has changed nothing."""


class DeadlineExceeded(Error, reason=ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED):
    """The deadline of the call passed before the server could answer. The call may have changed state."""


class ResponseDropped(Error, reason=ErrorReason.ERROR_REASON_RESPONSE_DROPPED):
    """The server had no memory for the response. The call may have changed state."""


class StoreFull(Error, reason=ErrorReason.ERROR_REASON_STORE_FULL):
    """The disk of the server is full, or its quota is used up, so the call has changed nothing."""


class LogChanged(Error, reason=ErrorReason.ERROR_REASON_LOG_CHANGED):
    """The cursor belongs to another log than the server's, for example because the database was restored from a backup.
    `metadata` contains the `log_id` of the server's log."""


class Cancelled(Error):
    """The caller has cancelled the call. Callers receive an `Error` with the gRPC code CANCELLED and without a
    reason."""

    @property
    def is_temporary(self) -> bool:
        """Returns False, because the client must not retry a call that the caller does not want anymore."""
        return False


class Closed(Cancelled):
    """The client is closed. Callers receive an `Error` with the gRPC code CANCELLED and without a reason."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.CANCELLED, "the client is closed: create a new client")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


Because: TypeAlias = Literal["taken", "unanswered", "refused"]

_LOST_TEXTS: dict[Because, str] = {
    "taken": (
        "the lease of task {} is lost, because the task was requeued, ended, or claimed by another agent: "
        "stop the attempt"
    ),
    "unanswered": (
        "the server answered no heartbeat for task {} for a whole lease duration, so the lease may be lost: "
        "stop the attempt"
    ),
    "refused": "the server refused a heartbeat for task {}, so the lease can't be renewed: stop the attempt",
}


class LeaseLost(Exception):
    """The lease of a task was lost while the block of `keep_lease` was running.

    `__cause__` is the error of the last heartbeat, or None if the server answered that heartbeat.
    """

    because: Because
    """The reason why the lease is lost. With `taken`, the server would reject a report on the task. With `unanswered`,
    another agent may hold the lease of the task. If no agent has claimed the task, the server still accepts a report.
    With `refused`, the server would refuse the heartbeat again, for example because the progress is larger than 1
    MiB."""

    def __init__(self, because: Because, task_id: str = "") -> None:
        super().__init__(because, task_id)
        self.because = because
        self._task_id = task_id

    def __str__(self) -> str:
        return _LOST_TEXTS[self.because].format(self._task_id)


def to_error(failure: grpc.RpcError) -> Error:
    """Returns the client's `Error` for an error of gRPC."""
    code = failure.code()
    message = failure.details() or ""
    status = _parse_status(failure)
    info = _find_detail(status, ErrorInfo)
    if info is None or info.domain != _DOMAIN:
        is_cancelled = code is grpc.StatusCode.CANCELLED and _is_cancelled_by_caller(failure)
        return Cancelled(code, message) if is_cancelled else Error(code, message)
    bad_request = _find_detail(status, BadRequest)
    retry = _find_detail(status, RetryInfo)
    violations = bad_request.field_violations if bad_request else ()
    return _class_by_reason.get(info.reason, Error)(
        code,
        message,
        info.reason,
        info.metadata,
        [FieldProblem(violation.field, violation.description) for violation in violations],
        retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
    )


def _is_cancelled_by_caller(failure: grpc.RpcError) -> bool:
    # Only an error of the blocking client has this method. The asyncio client raises CancelledError instead.
    is_cancelled: Callable[[], bool] | None = getattr(failure, "cancelled", None)
    return is_cancelled is not None and is_cancelled()


def _parse_status(failure: grpc.RpcError) -> Status:
    status = Status()
    # The type stubs of grpcio do not declare that the trailing metadata can be None and that each entry is a pair.
    trailers = cast("Iterable[tuple[str, str | bytes]] | None", failure.trailing_metadata())
    for key, value in trailers or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            status.ParseFromString(value)
    return status


def _find_detail(status: Status, kind: type[M]) -> M | None:
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None
