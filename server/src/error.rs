//! This module defines the errors of calls. Only `rpc/status.rs` converts these errors to a gRPC status.

use std::io;

use crate::domain::code::short_name;
use crate::domain::limits;

/// The result of an operation that can fail, with `Error` as the default error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a call failed. Each variant corresponds to one ErrorReason of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The proto documents the reasons.
pub enum Error {
    #[error("{field}: {problem}")]
    InvalidField { field: String, problem: String },
    #[error("the dependencies of the tasks form the cycle {cycle}: remove one of these dependencies")]
    DependencyCycle { cycle: String },
    #[error(
        "request_id {request_id:?} was used for a {rpc} call with different content: use a new request_id for each call"
    )]
    RequestIdReused { rpc: &'static str, request_id: String },
    #[error("{what} {id:?} does not exist: check the id")]
    NotFound { what: Resource, id: String },
    #[error("{0}")]
    StaleLease(StaleToken),
    #[error("agent {agent_id:?} holds the lease of task {task_id}: pass the holder's lease_token to complete the task")]
    LeaseRequired { task_id: String, agent_id: String },
    #[error("{problem}")]
    WrongStatus { current_status: &'static str, problem: String },
    #[error(
        "approval {approval_id} is {} (decided_by {decided_by:?}): only a pending approval can be decided or cancelled",
        short_name(verdict)
    )]
    AlreadyDecided { approval_id: String, verdict: &'static str, decided_by: String },
    #[error("approval {approval_id} is {}, so it can't be consumed", short_name(verdict))]
    NotApproved { approval_id: String, verdict: &'static str },
    #[error("approval {approval_id} was consumed before: request a new approval for each use")]
    AlreadyConsumed { approval_id: String },
    #[error(
        "approval {approval_id} has a different subject_digest than the request: request an approval for the new digest"
    )]
    DigestMismatch { approval_id: String },
    #[error(
        "run {run_id} is {}, so the run does not accept this call: create a new run for new tasks",
        short_name(current_status)
    )]
    RunEnded { run_id: String, current_status: &'static str },
    #[error(
        "the snapshot of run {run_id} is larger than {limit} bytes: set task_limit, approval_limit or artifact_limit, or \
         subscribe with FROM_SNAPSHOT"
    )]
    SnapshotTooLarge { run_id: String, limit: usize },
    #[error(
        "the server could not read the snapshot of run {run_id} in {} s: set task_limit, approval_limit or \
         artifact_limit",
        limits::SNAPSHOT_TIME.as_secs()
    )]
    SnapshotTooSlow { run_id: String },
    #[error("{thing} has revision {actual}, not {expected}: read {thing} again, then retry with the new revision")]
    RevisionMismatch { thing: String, expected: i64, actual: i64 },
    #[error(
        "run {run_id} has plan_version {actual}, not {expected}: read the plan again, then retry with the new version"
    )]
    PlanVersionMismatch { run_id: String, expected: i32, actual: i32 },
    #[error("position {cursor} is after the newest position {newest_position}: use a cursor from this server's log")]
    PositionInFuture { cursor: i64, newest_position: i64 },
    #[error(
        "retention has removed events between position {cursor} and {oldest_position}: start again from a snapshot"
    )]
    PositionCompacted { cursor: i64, oldest_position: i64, newest_position: i64 },
    #[error(
        "the cursor belongs to the log {log_id:?}, but the log of the server is {actual:?}, for example because the \
         database was restored from a backup: read a snapshot of the run again, or subscribe without a cursor"
    )]
    LogChanged { log_id: String, actual: String },
    #[error("the server is overloaded: retry the call with the same request_id after the delay in RetryInfo")]
    Overloaded,
    #[error("the server is shutting down: retry the call with the same request_id")]
    Draining,
    #[error(
        "another program has locked the database, or the server can't reach the database: retry the call with the same \
         request_id after the delay in RetryInfo"
    )]
    StoreBusy,
    #[error(
        "the disk of the server is full, or its quota is used up, so nothing was changed: free disk space on the server, \
         or retry the call with the same request_id after the delay in RetryInfo"
    )]
    StoreFull,
    #[error(
        "the request did not arrive within {} s plus 1 s for each 64 KiB received: send the whole request without \
         pauses",
        limits::REQUEST_TIME.as_secs()
    )]
    RequestIncomplete,
    #[error("the deadline of the call has passed: retry the call with the same request_id and a longer deadline")]
    DeadlineExceeded,
    #[error(
        "the server has no memory for the response, but the call may have changed state: retry the call with the same \
         request_id after the delay in RetryInfo"
    )]
    ResponseDropped,
    /// The database file can't be read or written. The value is the cause and the way out. The server logs the cause,
    /// never sends the cause to the caller, and ends.
    #[error("{0}")]
    StoreFailed(String),
    /// The content of the database file is damaged, or the file is read-only. The value is the cause and the way out.
    /// If the writer fails with this error, the server ends. A read that fails with this error fails only its call,
    /// because other rows may be undamaged.
    #[error("{0}")]
    StoreDamaged(String),
    /// A failure that only a bug or a failing machine can cause. The server logs the cause and never sends the cause to
    /// the caller.
    #[error("{0}")]
    Internal(String),
}

/// The kind of resource that an id identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Resource {
    Run,
    Task,
    Approval,
    Checkpoint,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str(match self {
            Self::Run => "run",
            Self::Task => "task",
            Self::Approval => "approval",
            Self::Checkpoint => "checkpoint",
        })
    }
}

/// A stale lease token, with details about the token's attempt and task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleToken {
    /// The id of the task that the call is about.
    pub task_id: String,
    /// The number of the attempt that the token was issued for. If the token was never issued for this task, the value
    /// is None.
    pub attempt_number: Option<i32>,
    /// The id of the agent that the token was issued to. If the server stores no agent for the token, the value is
    /// None.
    pub agent_id: Option<String>,
    /// The number of the task's newest attempt.
    pub current_attempt_number: i32,
    /// The name of the task's status in the API.
    pub current_status: &'static str,
    /// Whether the task was deleted with its run.
    pub was_deleted: bool,
}

impl StaleToken {
    /// Returns the stale token of a deleted task. The details of the attempt were deleted with the task.
    pub fn of_deleted_task(task_id: &str) -> Self {
        Self {
            task_id: task_id.to_owned(),
            attempt_number: None,
            agent_id: None,
            current_attempt_number: 0,
            current_status: "TASK_STATUS_UNSPECIFIED",
            was_deleted: true,
        }
    }
}

impl std::fmt::Display for StaleToken {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { task_id, current_attempt_number, .. } = self;
        if self.was_deleted {
            return write!(
                to,
                "the lease token is stale, because task {task_id} was deleted: stop the attempt and claim another task"
            );
        }
        match self.attempt_number {
            Some(number) => {
                write!(to, "the lease token is stale: it was issued for attempt {number} of task {task_id}")?
            }
            None => write!(to, "the lease token was never issued for task {task_id}")?,
        }
        let status = short_name(self.current_status);
        write!(to, ", which is {status} at attempt {current_attempt_number}: stop the attempt and claim a task again")
    }
}

/// Returns whether an error of the operating system means that the disk is full (ENOSPC), that a quota is used up
/// (EDQUOT), or that a file has reached the limit of its size (EFBIG).
pub fn is_full_disk(cause: io::ErrorKind) -> bool {
    matches!(cause, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

impl Error {
    /// Returns the error for a field with an invalid value. `problem` describes why the value is invalid.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }

    /// If the error names a field, returns the error with the field as a part of the message `path()`, such as
    /// `events[3]`. The caller names the message only after a failure, so that a valid request with many messages costs
    /// no string for each of their fields.
    pub fn within(self, path: impl FnOnce() -> String) -> Self {
        match self {
            Self::InvalidField { field, problem } => Self::field(format!("{}.{field}", path()), problem),
            other => other,
        }
    }

    /// Returns the error for an id that identifies no resource of the kind `what`.
    pub fn not_found(what: Resource, id: &str) -> Self {
        Self::NotFound { what, id: id.to_owned() }
    }

    /// Returns the error for a failure of the operating system: `StoreFull` if the disk is full, and `Internal`
    /// otherwise.
    pub fn from_io(cause: &io::Error) -> Self {
        if is_full_disk(cause.kind()) { Self::StoreFull } else { Self::internal(cause) }
    }

    /// Returns whether the store must not write after this error.
    pub fn is_store_failure(&self) -> bool {
        matches!(self, Self::StoreFailed(_) | Self::StoreDamaged(_))
    }

    /// Returns the error for a failure that only a bug or a failing machine can cause.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }
}
