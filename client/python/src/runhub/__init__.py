"""This package is the Python client of Runhub, a thin layer over the generated stubs.

Call `connect` once and share the client between threads, or call `runhub.aio.connect` for asyncio. Every RPC is a
method of its service's stub, such as `client.tasks.ClaimTask`. Each method takes a request and returns a response. If
the call fails, the method raises an `Error`. `client.subscribe` yields the events of the log without a gap or a
duplicate, even if the connection breaks or the server restarts. `client.keep_lease` renews the lease of a claimed task.
The package `runhub.v1` contains all messages and enums.
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
    DeadlineExceeded,
    DependencyCycle,
    DigestMismatch,
    Draining,
    Error,
    FieldProblem,
    Internal,
    InvalidField,
    LeaseLost,
    LeaseRequired,
    LogChanged,
    NotApproved,
    Overloaded,
    PlanVersionMismatch,
    PositionCompacted,
    PositionInFuture,
    RequestIdReused,
    RequestIncomplete,
    ResponseDropped,
    RevisionMismatch,
    RunEnded,
    RunNotFound,
    SnapshotTooLarge,
    StaleLease,
    StoreBusy,
    StoreFull,
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
    "DeadlineExceeded",
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
    "LogChanged",
    "NotApproved",
    "Overloaded",
    "PlanVersionMismatch",
    "PositionCompacted",
    "PositionInFuture",
    "RequestIdReused",
    "RequestIncomplete",
    "ResponseDropped",
    "RevisionMismatch",
    "RunEnded",
    "RunNotFound",
    "SnapshotTooLarge",
    "StaleLease",
    "StoreBusy",
    "StoreFull",
    "Subscription",
    "TaskNotFound",
    "WrongStatus",
    "aio",
    "connect",
    "to_json",
    "value",
]
