//! Why a call can be refused. `rpc/status.rs` is the one place where these become a gRPC status.

use crate::domain::code::words;

/// The result of anything that can be refused.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused, one variant for each reason of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The texts say it.
pub enum Error {
    #[error("{field}: {problem}")]
    InvalidField { field: String, problem: String },
    #[error("the dependencies go in a circle: {cycle}")]
    DependencyCycle { cycle: String },
    #[error("this request_id was used for the same RPC with other content")]
    RequestIdReused,
    #[error("there is no {what} {id:?}")]
    NotFound { what: Resource, id: String },
    #[error("the lease token is stale: {0}")]
    StaleLease(StaleToken),
    #[error("somebody holds the task: only its lease_token can complete it")]
    LeaseRequired,
    #[error("{problem}")]
    WrongStatus { current_status: &'static str, problem: String },
    #[error("it was decided already: {} by {decided_by:?}", words(verdict))]
    AlreadyDecided { verdict: &'static str, decided_by: String },
    #[error("it is not approved: it is {}", words(verdict))]
    NotApproved { verdict: &'static str },
    #[error("it was used already: an approval is good for one use")]
    AlreadyConsumed,
    #[error("the approval is for something with another digest")]
    DigestMismatch,
    #[error("the run is {}: it takes no new work", words(current_status))]
    RunEnded { current_status: &'static str },
    #[error("the snapshot is over {limit} bytes: ask for less by event_limit, attempt_limit and task_limit")]
    SnapshotTooLarge { limit: usize },
    #[error("the revision is {actual}, not {expected}: read again, then retry")]
    RevisionMismatch { expected: i64, actual: i64 },
    #[error("the plan_version is {actual}, not {expected}: read again, then retry")]
    PlanVersionMismatch { expected: i32, actual: i32 },
    #[error("the cursor is above every position given so far, the newest of which is {newest_position}")]
    PositionInFuture { newest_position: i64 },
    #[error("the log begins at {oldest_position}: of what followed the cursor some was removed for its age")]
    PositionCompacted { oldest_position: i64, newest_position: i64 },
    #[error("more calls are waiting than the server takes: the same call again, a little later")]
    Overloaded,
    #[error("the server is shutting down: the same call again, to its successor")]
    Draining,
    #[error("the database is held by another program: the same call again, a little later")]
    StoreBusy,
    /// A bug or a broken disk. The cause is for the log, never for the caller.
    #[error("{0}")]
    Internal(String),
}

/// What an id can name.
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

/// What is known of a lease token that is no longer good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleToken {
    /// The attempt it was given out for; None if it was never given out for this task.
    pub attempt_number: Option<i32>,
    /// Who it was given to.
    pub agent_id: Option<String>,
    /// The task's newest attempt.
    pub current_attempt_number: i32,
    /// Where the task stands.
    pub current_status: &'static str,
    /// There is no task any more.
    pub was_deleted: bool,
}

impl StaleToken {
    /// Of a task that was deleted: nothing is known of it.
    pub fn of_deleted_task() -> Self {
        Self {
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
        if self.was_deleted {
            return to.write_str("its task was deleted");
        }
        match self.attempt_number {
            Some(number) => write!(to, "it was given out for attempt {number}")?,
            None => to.write_str("it was never given out for this task")?,
        }
        write!(to, "; the task is {} at attempt {}", words(self.current_status), self.current_attempt_number)
    }
}

impl Error {
    /// A field that can't be taken, and why.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }

    /// An id that names nothing.
    pub fn not_found(what: Resource, id: &str) -> Self {
        Self::NotFound { what, id: id.to_owned() }
    }

    /// Something that must not happen did.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal(cause.to_string())
    }
}
