//! The reasons for which a call can fail. `rpc/status.rs` is the one place where these become a gRPC status.

use crate::domain::code::short_name;

/// The result of anything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason of a failed call: one variant for each ErrorReason of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The proto documents the reasons.
pub enum Error {
    #[error("{field}: {problem}")]
    InvalidField { field: String, problem: String },
    #[error("the dependencies of the tasks form a cycle: {cycle}")]
    DependencyCycle { cycle: String },
    #[error(
        "request_id {request_id:?} was used for a {rpc} call with other content: use a new request_id for each call"
    )]
    RequestIdReused { rpc: &'static str, request_id: String },
    #[error("{what} {id:?} does not exist")]
    NotFound { what: Resource, id: String },
    #[error("{0}")]
    StaleLease(StaleToken),
    #[error("task {task_id} is held by agent {agent_id:?}: completing it needs the holder's lease_token")]
    LeaseRequired { task_id: String, agent_id: String },
    #[error("{problem}")]
    WrongStatus { current_status: &'static str, problem: String },
    #[error(
        "approval {approval_id} is {} by {decided_by:?}: only a pending approval can be decided or cancelled",
        short_name(verdict)
    )]
    AlreadyDecided { approval_id: String, verdict: &'static str, decided_by: String },
    #[error("approval {approval_id} is {}, so it can't be consumed", short_name(verdict))]
    NotApproved { approval_id: String, verdict: &'static str },
    #[error("approval {approval_id} was consumed before: request a new approval for each use")]
    AlreadyConsumed { approval_id: String },
    #[error("approval {approval_id} has another subject_digest than this request: request an approval for this digest")]
    DigestMismatch { approval_id: String },
    #[error("run {run_id} is {}, so it takes no new work", short_name(current_status))]
    RunEnded { run_id: String, current_status: &'static str },
    #[error(
        "the snapshot of run {run_id} is over {limit} bytes: ask for less with event_limit, attempt_limit and task_limit"
    )]
    SnapshotTooLarge { run_id: String, limit: usize },
    #[error("{thing} has revision {actual}, not {expected}: read it again, then retry")]
    RevisionMismatch { thing: String, expected: i64, actual: i64 },
    #[error("run {run_id} has plan_version {actual}, not {expected}: read the plan again, then retry")]
    PlanVersionMismatch { run_id: String, expected: i32, actual: i32 },
    #[error(
        "position {cursor} is after the newest position {newest_position}: it is probably from another database, so compare log_id"
    )]
    PositionInFuture { cursor: i64, newest_position: i64 },
    #[error(
        "retention has removed events after position {cursor}, and the log now begins at {oldest_position}: start again from a snapshot"
    )]
    PositionCompacted { cursor: i64, oldest_position: i64, newest_position: i64 },
    #[error("too many calls are waiting: repeat this call with the same request_id after the delay in RetryInfo")]
    Overloaded,
    #[error("the server is shutting down: repeat this call with the same request_id")]
    Draining,
    #[error(
        "another program has locked the database: repeat this call with the same request_id after the delay in RetryInfo"
    )]
    StoreBusy,
    /// A bug or a broken disk. The cause is for the log, never for the caller.
    #[error("{0}")]
    Internal(String),
}

/// The kind of thing that an id names.
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

/// A stale lease token, with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleToken {
    /// The task that the call is about.
    pub task_id: String,
    /// The attempt that the token was issued for. None: the server never issued it for this task.
    pub attempt_number: Option<i32>,
    /// The agent that the token was issued to.
    pub agent_id: Option<String>,
    /// The task's newest attempt.
    pub current_attempt_number: i32,
    /// The task's status, by its name in the API.
    pub current_status: &'static str,
    /// The task was deleted with its run.
    pub was_deleted: bool,
}

impl StaleToken {
    /// Returns the stale token of a task that was deleted, so that nothing else is known of it.
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
            return write!(to, "the lease token is stale: task {task_id} was deleted");
        }
        match self.attempt_number {
            Some(number) => {
                write!(to, "the lease token is stale: it was issued for attempt {number} of task {task_id}")?
            }
            None => write!(to, "the lease token was never issued for task {task_id}")?,
        }
        let status = short_name(self.current_status);
        write!(to, ", which is {status} at attempt {current_attempt_number}: stop this work and claim again")
    }
}

impl Error {
    /// Returns the error for a field with an invalid value. `problem` says what the value must be.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }

    /// Returns the error for an id that names nothing.
    pub fn not_found(what: Resource, id: &str) -> Self {
        Self::NotFound { what, id: id.to_owned() }
    }

    /// Returns the error for something that can only be a bug or a failing machine.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }
}
