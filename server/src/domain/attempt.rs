//! Attempts at a task.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

coded_enum! {
    /// How an attempt stands or ended.
    AttemptStatus {
        Running = 1 "ATTEMPT_STATUS_RUNNING",
        Completed = 2 "ATTEMPT_STATUS_COMPLETED",
        Failed = 3 "ATTEMPT_STATUS_FAILED",
        Blocked = 4 "ATTEMPT_STATUS_BLOCKED",
        Abandoned = 5 "ATTEMPT_STATUS_ABANDONED",
        Released = 6 "ATTEMPT_STATUS_RELEASED",
        LeaseExpired = 7 "ATTEMPT_STATUS_LEASE_EXPIRED",
    }
}

/// One try at a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
pub struct TaskAttempt {
    pub key: Key,
    pub id: String,
    pub run_id: String,
    pub task_id: String,
    pub attempt_number: i32,
    pub agent_id: Option<String>,
    pub status: AttemptStatus,
    pub summary: String,
    pub blocker_signature: Option<String>,
    pub result: Json,
    /// What the holder's last heartbeat said.
    pub progress: Json,
    pub create_time: Timestamp,
    pub end_time: Option<Timestamp>,
}

/// What an orchestrator reports of an attempt it kept itself.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct AttemptReport {
    pub attempt_number: i32,
    pub status: AttemptStatus,
    pub summary: String,
    pub blocker_signature: Option<String>,
    pub result: Json,
}

impl AttemptReport {
    /// When the attempt ended, as far as a report made at `now` can tell.
    pub fn end_time(&self, now: Timestamp) -> Option<Timestamp> {
        (self.status != AttemptStatus::Running).then_some(now)
    }
}
