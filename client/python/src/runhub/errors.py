"""What goes wrong, by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

# Of the ErrorInfo of every refusal by a Runhub server.
_DOMAIN = "runhub"
_DETAILS_KEY = "grpc-status-details-bin"

M = TypeVar("M", bound=Message)

_by_reason: dict[str, type[Error]] = {}


class FieldProblem(NamedTuple):
    """A field that could not be taken, and why."""

    field: str
    problem: str


# For threads too: grpc.aio handles nothing else that its interceptors raise, and to threads it is a grpc.RpcError.
class Error(grpc.aio.AioRpcError):
    """A call did not do what it was for: the server refused it, or it or its answer got lost on the way.

    Each reason has a class of its own, such as `StaleLease`; a reason that this client does not know yet is a plain
    `Error` with the reason's text. What never reached a handler has no reason. `code()` is gRPC's code.
    """

    reason: str | None
    """Why the server refused it. The protos say which RPC gives which."""
    message: str
    """For people only."""
    metadata: dict[str, str]
    """The particulars that the reason documents."""
    fields: list[FieldProblem]
    """What could not be taken."""
    retry_delay: float | None
    """In how many seconds to make the same call again, if the server has said so."""

    def __init_subclass__(cls, *, reason: str | None = None) -> None:
        if reason is not None:
            _by_reason[reason] = cls

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
        """The same call may well succeed later: the server is away, shutting down or too busy, or the connection
        broke."""
        # grpcio reports a broken connection as UNAVAILABLE, whatever was under way.
        return self.code() is grpc.StatusCode.UNAVAILABLE or self.reason == "OVERLOADED"

    def __str__(self) -> str:
        return f"{self.reason or self.code().name}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers in processes hand errors on.
        return type(self), (self.code(), self.message, self.reason, self.metadata, self.fields, self.retry_delay)


class InvalidField(Error, reason="INVALID_FIELD"):
    """A field can't be taken: see `fields`."""


class DependencyCycle(Error, reason="DEPENDENCY_CYCLE"):
    """The tasks depend on each other in a circle."""


class RequestIdReused(Error, reason="REQUEST_ID_REUSED"):
    """The request_id was given to another request before."""


class RunNotFound(Error, reason="RUN_NOT_FOUND"):
    """There is no such run, or no longer."""


class TaskNotFound(Error, reason="TASK_NOT_FOUND"):
    """There is no such task, or not in that run."""


class ApprovalNotFound(Error, reason="APPROVAL_NOT_FOUND"):
    """There is no such approval."""


class CheckpointNotFound(Error, reason="CHECKPOINT_NOT_FOUND"):
    """There is no such checkpoint."""


class StaleLease(Error, reason="STALE_LEASE"):
    """The lease is over: the task was taken back, moved or given to somebody else."""


class LeaseRequired(Error, reason="LEASE_REQUIRED"):
    """Somebody holds the task: it takes the lease_token."""


class WrongStatus(Error, reason="WRONG_STATUS"):
    """That can't be done in the status it has."""


class RunEnded(Error, reason="RUN_ENDED"):
    """The run has ended, or is being cancelled."""


class AlreadyDecided(Error, reason="ALREADY_DECIDED"):
    """Somebody else has decided: `metadata` has the verdict and the source."""


class NotApproved(Error, reason="NOT_APPROVED"):
    """The approval was not given."""


class AlreadyConsumed(Error, reason="ALREADY_CONSUMED"):
    """The approval was used before."""


class DigestMismatch(Error, reason="DIGEST_MISMATCH"):
    """The approval is for something else."""


class SnapshotTooLarge(Error, reason="SNAPSHOT_TOO_LARGE"):
    """The run's snapshot is over 16 MiB."""


class RevisionMismatch(Error, reason="REVISION_MISMATCH"):
    """It was changed meanwhile: read it again."""


class PlanVersionMismatch(Error, reason="PLAN_VERSION_MISMATCH"):
    """The plan was replaced meanwhile: read it again."""


class PositionInFuture(Error, reason="POSITION_IN_FUTURE"):
    """The log does not go as far as that position."""


class PositionCompacted(Error, reason="POSITION_COMPACTED"):
    """Events after that position are gone: `metadata` has the oldest_position."""


class Overloaded(Error, reason="OVERLOADED"):
    """The server has too much to do."""


class Draining(Error, reason="DRAINING"):
    """The server shuts down."""


class StoreBusy(Error, reason="STORE_BUSY"):
    """Something else keeps the server from its store."""


class Internal(Error, reason="INTERNAL"):
    """The server has a bug: its log says more under the id in the message."""


class OtherLog(Error):
    """The server has another database than when the subscription began, in which its cursor means nothing."""

    def __init__(self) -> None:
        text = "the server's log is another one now: a cursor of the old one means nothing in it"
        super().__init__(grpc.StatusCode.FAILED_PRECONDITION, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class Closed(Error):
    """The client is closed. No reason and no class of the API: it has gRPC's code CANCELLED."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.CANCELLED, "the client is closed")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


Because: TypeAlias = Literal["taken", "unanswered", "refused"]

_LOST_BECAUSE: dict[Because, str] = {
    "taken": "the lease is lost: the task was taken back, moved or given to somebody else",
    "unanswered": "the lease may be lost: no beat was answered for as long as it lasts",
    "refused": "the lease can't be kept: the server refuses the beats",
}


class LeaseLost(Exception):
    """The lease of the work is lost. `__cause__` has what the last beat met, if that was an error."""

    because: Because
    """`taken`: a report would be refused. `unanswered`: somebody else may have the task by now; a report is still taken
    if nobody has. `refused`: the server would refuse the beat again, for a progress over 1 MiB, say."""

    def __init__(self, because: Because) -> None:
        super().__init__(because)
        self.because = because

    def __str__(self) -> str:
        return _LOST_BECAUSE[self.because]


def error_of(failure: grpc.RpcError) -> Error:
    """What the server says with an error of gRPC's."""
    code, message = failure.code(), failure.details() or ""
    status = _status(failure)
    info = _detail(status, ErrorInfo)
    if info is None or info.domain != _DOMAIN:
        return Error(code, message)
    bad, retry = _detail(status, BadRequest), _detail(status, RetryInfo)
    violations = bad.field_violations if bad else ()
    return _by_reason.get(info.reason, Error)(
        code,
        message,
        info.reason,
        info.metadata,
        [FieldProblem(violation.field, violation.description) for violation in violations],
        retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
    )


def _status(failure: grpc.RpcError) -> Status:
    status = Status()
    # Its type says neither that there may be none, nor that these are pairs.
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
