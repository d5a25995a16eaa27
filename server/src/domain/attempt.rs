//! This module defines attempts at a task, and the reports that orchestrators send about attempts.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

coded_enum! {
    /// Lists the possible statuses of an attempt.
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

/// Represents one attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
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
    /// The newest progress that the agent of this attempt reported in a heartbeat. If the agent has reported no
    /// progress, the value is null.
    pub progress: Json,
    pub create_time: Timestamp,
    pub end_time: Option<Timestamp>,
}

/// Contains the fields of an attempt that an orchestrator reports.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct AttemptReport {
    pub attempt_number: i32,
    pub status: AttemptStatus,
    pub summary: String,
    pub blocker_signature: Option<String>,
    pub result: Json,
}

impl AttemptReport {
    /// Returns the end time of the reported attempt, or None if the attempt is still running. The end time is `now`,
    /// the time of the transaction that saves the report.
    pub fn end_time(&self, now: Timestamp) -> Option<Timestamp> {
        (self.status != AttemptStatus::Running).then_some(now)
    }
}
