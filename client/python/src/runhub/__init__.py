"""The Python client of Runhub: a thin layer over the generated stubs.

Call `connect` once and share the client between threads, or call `runhub.aio.connect` for asyncio. Every RPC is a
method of its service's stub, such as `client.tasks.ClaimTask`. The method takes a request and returns a response, or
raises an `Error` with a reason. `client.subscribe` follows events through broken connections and restarts of the
server, without a gap or a duplicate. `client.keep_lease` keeps the lease of a claimed task. The messages and enums are
in `runhub.v1`.
"""

from runhub import aio
from runhub._blocking.client import Client, connect
from runhub._blocking.lease import Lease
from runhub._blocking.subscription import Subscription
from runhub.errors import (
    AlreadyConsumed,
    AlreadyDecided,
    ApprovalNotFound,
    CheckpointNotFound,
    DependencyCycle,
    DigestMismatch,
    Draining,
    Error,
    FieldProblem,
    Internal,
    InvalidField,
    LeaseLost,
    LeaseRequired,
    NotApproved,
    OtherLog,
    Overloaded,
    PlanVersionMismatch,
    PositionCompacted,
    PositionInFuture,
    RequestIdReused,
    RevisionMismatch,
    RunEnded,
    RunNotFound,
    SnapshotTooLarge,
    StaleLease,
    StoreBusy,
    TaskNotFound,
    WrongStatus,
)
from runhub.values import Json, to_json, value

__all__ = [
    "AlreadyConsumed",
    "AlreadyDecided",
    "ApprovalNotFound",
    "CheckpointNotFound",
    "Client",
    "DependencyCycle",
    "DigestMismatch",
    "Draining",
    "Error",
    "FieldProblem",
    "Internal",
    "InvalidField",
    "Json",
    "Lease",
    "LeaseLost",
    "LeaseRequired",
    "NotApproved",
    "OtherLog",
    "Overloaded",
    "PlanVersionMismatch",
    "PositionCompacted",
    "PositionInFuture",
    "RequestIdReused",
    "RevisionMismatch",
    "RunEnded",
    "RunNotFound",
    "SnapshotTooLarge",
    "StaleLease",
    "StoreBusy",
    "Subscription",
    "TaskNotFound",
    "WrongStatus",
    "aio",
    "connect",
    "to_json",
    "value",
]
