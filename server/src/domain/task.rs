//! This module defines tasks, their statuses, and the rules for the callers that change a task.

use std::time::Duration;

use super::attempt::AttemptStatus;
use super::code::short_name;
use super::json::Json;
use super::lease::Lease;
use super::run::{Run, RunStatus};
use super::time::Timestamp;
use super::{Key, Labels};
use crate::error::{Error, Result};

coded_enum! {
    /// Lists the possible statuses of a task.
    TaskStatus {
        Pending = 1 "TASK_STATUS_PENDING",
        InProgress = 2 "TASK_STATUS_IN_PROGRESS",
        Completed = 3 "TASK_STATUS_COMPLETED",
        Blocked = 4 "TASK_STATUS_BLOCKED",
        Abandoned = 5 "TASK_STATUS_ABANDONED",
    }
}

/// The `blocker_signature` of a task that is blocked because of an abandoned dependency.
pub const DEPENDENCY_ABANDONED: &str = "dependency_abandoned";
/// The `blocker_signature` of a task whose last allowed attempt expired, or failed without a reported
/// `blocker_signature`.
pub const ATTEMPTS_EXHAUSTED: &str = "attempts_exhausted";

/// Represents one task in the plan of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Task {
    pub key: Key,
    pub id: String,
    pub run_key: Key,
    pub run_id: String,
    pub ordinal: i32,
    pub spec: TaskSpec,
    /// The ids of the tasks of the same run on which this task depends.
    pub depends_on: Vec<String>,
    /// The database key of the path set with the `allowed_paths` of the task. If the task has no paths, or if the run
    /// ignores paths, the value is None.
    pub path_set_key: Option<Key>,
    /// The database key of the set of the task's `required_capabilities`, or 0 if the task requires no capabilities.
    pub capability_set_key: Key,
    pub status: TaskStatus,
    /// If `not_before_time` has delayed the task and the server has not ended the delay yet, the value is true. The
    /// server ends the delay once, so a clock that is set back does not delay the task again.
    pub is_delayed: bool,
    /// If the server computed `not_before_time` from a `retry_delay`, the value is true. If the clock is set, such a time
    /// moves with the clock, so that the delay keeps its duration.
    pub has_retry_delay: bool,
    pub attempt_count: i32,
    pub failure_count: i32,
    pub implementation_summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub agent_id: Option<String>,
    /// The lease of the newest claim. After the lease has expired, the field keeps the lease until another caller
    /// claims or changes the task, so that the agent that held the lease can still report. If every lease token for the
    /// task is stale, the value is None.
    pub lease: Option<Lease>,
    /// The number of the task's dependencies that are not completed.
    pub open_dependencies: i32,
    pub plan_version: i32,
    pub revision: i64,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

/// Contains the part of a task that the planner writes. A failed attempt can change `not_before_time`, but the other
/// fields never change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The proto documents them.
pub struct TaskSpec {
    pub title: String,
    pub objective: String,
    pub acceptance_criteria: Vec<String>,
    pub verification_steps: Vec<String>,
    pub allowed_paths: Vec<String>,
    pub required_capabilities: Vec<String>,
    pub priority: i32,
    pub labels: Labels,
    pub max_attempts: i32,
    pub not_before_time: Option<Timestamp>,
}

impl TaskSpec {
    /// Returns whether `not_before_time` is later than `now`.
    fn has_future_not_before_time(&self, now: Timestamp) -> bool {
        self.not_before_time.is_some_and(|time| now < time)
    }
}

/// Returns whether `capabilities` contains every capability in `required`.
pub fn contains_all(capabilities: &[String], required: &[String]) -> bool {
    required.iter().all(|name| capabilities.contains(name))
}

/// Contains a task that a planner adds to a plan.
#[derive(Debug, Clone, Default)]
pub struct TaskDraft {
    /// The name by which other drafts of the same request can depend on this draft. If the draft has no name, the value
    /// is empty.
    pub key: String,
    /// The part of the task that the planner writes.
    pub spec: TaskSpec,
    /// The dependencies of the task. Each entry is the key of a draft in the same request, or the id of a task of the
    /// run.
    pub depends_on: Vec<String>,
}

/// Identifies the caller that reports on a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A caller that passed a lease token. The value is the lease token.
    Holder(String),
    /// A caller without a lease token.
    Operator,
}

/// Lists the possible roles of a caller that has no lease token, or a lease token that is not stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The caller holds the live lease of the task.
    Holder,
    /// The caller holds an expired lease, and no other caller has claimed or changed the task since the expiry.
    LateHolder,
    /// The caller has no lease token.
    Operator,
}

/// Contains the content of a call that completes, blocks, abandons, fails or releases a task.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct Ending {
    pub to: EndStatus,
    pub summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub result: Json,
    /// The time during which agents can't claim the task after a failed attempt. If agents can claim the task
    /// immediately, the value is None.
    pub retry_delay: Option<Duration>,
}

impl Ending {
    /// Returns an ending with the status `to`, and without a summary, a blocker signature, a result or a retry delay.
    pub fn new(to: EndStatus) -> Self {
        Self { to, summary: None, blocker_signature: None, result: Json::null(), retry_delay: None }
    }
}

/// Lists the ways in which a caller can end a task or an attempt at a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EndStatus {
    Completed,
    Blocked,
    Abandoned,
    Failed,
    Released,
}

impl EndStatus {
    /// Returns the status of an attempt that ends with this end status.
    pub fn attempt_status(self) -> AttemptStatus {
        match self {
            Self::Completed => AttemptStatus::Completed,
            Self::Blocked => AttemptStatus::Blocked,
            Self::Abandoned => AttemptStatus::Abandoned,
            Self::Failed => AttemptStatus::Failed,
            Self::Released => AttemptStatus::Released,
        }
    }

    fn past_participle(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Blocked => "blocked",
            Self::Abandoned => "abandoned",
            Self::Failed => "failed",
            Self::Released => "released",
        }
    }

    fn is_allowed_from(self, status: TaskStatus) -> bool {
        match status {
            TaskStatus::InProgress => true,
            TaskStatus::Pending => matches!(self, Self::Completed | Self::Blocked | Self::Abandoned),
            TaskStatus::Blocked => matches!(self, Self::Completed | Self::Abandoned),
            TaskStatus::Completed | TaskStatus::Abandoned => false,
        }
    }

    /// Returns whether a caller in the role `role` can set this end status for a task in the status `status`. A caller
    /// with an expired lease can set every end status except RELEASED, because the expiry has already returned the task
    /// to the queue.
    fn is_allowed(self, role: Role, status: TaskStatus) -> bool {
        self.is_allowed_from(status) || (role == Role::LateHolder && self != Self::Released)
    }
}

impl Task {
    /// Returns a new pending task for the plan of a run. The task has no dependencies.
    pub fn new(key: Key, id: String, run: &Run, ordinal: i32, spec: TaskSpec, now: Timestamp) -> Self {
        Self {
            key,
            id,
            run_key: run.key,
            run_id: run.id.clone(),
            ordinal,
            is_delayed: spec.has_future_not_before_time(now),
            has_retry_delay: false,
            spec,
            depends_on: Vec::new(),
            path_set_key: None,
            capability_set_key: 0,
            status: TaskStatus::Pending,
            attempt_count: 0,
            failure_count: 0,
            implementation_summary: None,
            blocker_signature: None,
            agent_id: None,
            lease: None,
            open_dependencies: 0,
            plan_version: run.plan_version,
            revision: 1,
            create_time: now,
            update_time: now,
        }
    }

    /// Returns whether an agent holds the lease of the task.
    pub fn is_held(&self) -> bool {
        self.status == TaskStatus::InProgress
    }

    /// Returns the role of a caller, or None if the caller's lease token is stale.
    pub fn role_of(&self, caller: &Caller) -> Option<Role> {
        match caller {
            Caller::Operator => Some(Role::Operator),
            Caller::Holder(token) if self.lease.as_ref().is_none_or(|lease| lease.token != *token) => None,
            Caller::Holder(_) if self.is_held() => Some(Role::Holder),
            Caller::Holder(_) => Some(Role::LateHolder),
        }
    }

    /// Returns whether the task is ready, which means pending, due, and without open dependencies. Whether an agent
    /// can claim a ready task also depends on the run, the paths and the agent's capabilities.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.status == TaskStatus::Pending && self.open_dependencies == 0 && self.delay_end(now).is_none()
    }

    /// Returns the time before which agents can't claim the task, or None if the task is due.
    pub fn delay_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.spec.not_before_time.filter(|_| self.is_delayed && self.spec.has_future_not_before_time(now))
    }

    /// Returns the task after a caller has completed, blocked, abandoned, failed or released the task. Fails if the
    /// caller's role, the status of the task, or an open dependency does not allow `ending`.
    pub fn ended(&self, role: Role, ending: &Ending, run: RunStatus, now: Timestamp) -> Result<Self> {
        if !ending.to.is_allowed(role, self.status) {
            return Err(self.status_error(ending.to.past_participle()));
        }
        if ending.to == EndStatus::Completed {
            self.check_completable(role)?;
        }
        let mut next = match ending.to {
            EndStatus::Completed => self.with_status(TaskStatus::Completed, now),
            EndStatus::Blocked => self.with_status(TaskStatus::Blocked, now),
            EndStatus::Abandoned => self.with_status(TaskStatus::Abandoned, now),
            EndStatus::Released => return Ok(self.requeue_or_abandon(run, now)),
            EndStatus::Failed => self.requeue_or_abandon(run, now),
        };
        next.implementation_summary = ending.summary.clone();
        next.blocker_signature = ending.blocker_signature.clone();
        // An attempt counts as at most one failure. If the lease of the attempt has expired, the expiry has already
        // counted a failure. A reported failure then adds nothing, and any other report removes the counted failure.
        match (role, ending.to) {
            (Role::LateHolder, EndStatus::Failed) => {}
            (_, EndStatus::Failed) => next.failure_count += 1,
            (Role::LateHolder, _) => next.failure_count -= 1,
            _ => {}
        }
        if ending.to == EndStatus::Failed {
            next.block_if_exhausted(ending.blocker_signature.as_deref());
        }
        if let Some(delay) = ending.retry_delay {
            next.spec.not_before_time = Some(now.plus(delay));
            next.is_delayed = next.spec.has_future_not_before_time(now);
            next.has_retry_delay = true;
        }
        Ok(next)
    }

    fn check_completable(&self, role: Role) -> Result<()> {
        if self.is_held() && role == Role::Operator {
            let agent_id = self.agent_id.clone().unwrap_or_default();
            return Err(Error::LeaseRequired { task_id: self.id.clone(), agent_id });
        }
        if self.open_dependencies > 0 {
            let open = self.open_dependencies;
            return Err(self.status_error(&format!("completed while {open} of its dependencies are not completed")));
        }
        Ok(())
    }

    /// Returns the error for a change that the status of the task does not allow. `change` is a past participle such
    /// as `requeued`, which follows "can't be" in the error text.
    pub fn status_error(&self, change: &str) -> Error {
        let current_status = self.status.name();
        let problem = format!("task {} is {}, so it can't be {change}", self.id, short_name(current_status));
        Error::WrongStatus { current_status, problem }
    }

    /// Returns the task after an attempt that did not complete the task. The task is pending again, or abandoned if the
    /// run is being cancelled.
    fn requeue_or_abandon(&self, run: RunStatus, now: Timestamp) -> Self {
        let is_cancelling = run == RunStatus::Cancelling;
        self.with_status(if is_cancelling { TaskStatus::Abandoned } else { TaskStatus::Pending }, now)
    }

    fn block_if_exhausted(&mut self, signature: Option<&str>) {
        let is_exhausted = self.spec.max_attempts > 0 && self.failure_count >= self.spec.max_attempts;
        if is_exhausted && self.status == TaskStatus::Pending {
            self.status = TaskStatus::Blocked;
            self.blocker_signature = Some(signature.unwrap_or(ATTEMPTS_EXHAUSTED).to_owned());
        }
    }

    /// Returns the task after its lease has expired. Unless the task is abandoned, the task keeps the expired lease, so
    /// that the agent that held the lease can still report.
    pub fn expired(&self, run: RunStatus, now: Timestamp) -> Self {
        let mut next = self.requeue_or_abandon(run, now);
        if next.status == TaskStatus::Pending {
            next.lease = self.lease.clone();
        }
        next.failure_count += 1;
        next.block_if_exhausted(None);
        next
    }

    /// Returns the task after a heartbeat has resumed the expired lease. The failure count decreases by 1, because the
    /// expiry had increased the failure count by 1.
    pub fn resumed(&self, agent_id: Option<String>, lease: Lease, now: Timestamp) -> Self {
        let failure_count = self.failure_count - 1;
        Self { agent_id, lease: Some(lease), failure_count, ..self.with_status(TaskStatus::InProgress, now) }
    }

    /// Returns the task after a claim by the agent `agent_id`.
    pub fn claimed(&self, agent_id: &str, lease: Lease, now: Timestamp) -> Self {
        let mut next = self.with_status(TaskStatus::InProgress, now);
        next.agent_id = Some(agent_id.to_owned());
        next.lease = Some(lease);
        next.attempt_count += 1;
        next
    }

    /// Returns the task in the status `to`, without a holder and without a lease. The revision increases by 1.
    pub fn with_status(&self, to: TaskStatus, now: Timestamp) -> Self {
        let revision = self.revision + 1;
        let is_delayed = self.spec.has_future_not_before_time(now);
        Self { status: to, is_delayed, agent_id: None, lease: None, revision, update_time: now, ..self.clone() }
    }

    /// Returns the task in the status PENDING after a requeue, with a failure count of 0. Fails if the task is pending
    /// or completed.
    pub fn requeued(&self, now: Timestamp) -> Result<Self> {
        if matches!(self.status, TaskStatus::Pending | TaskStatus::Completed) {
            return Err(self.status_error("requeued"));
        }
        Ok(Self { failure_count: 0, blocker_signature: None, ..self.with_status(TaskStatus::Pending, now) })
    }
}

#[cfg(test)]
mod tests;
