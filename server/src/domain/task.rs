//! Tasks: their statuses, and the callers that may change them.

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
    /// The status of a task.
    TaskStatus {
        Pending = 1 "TASK_STATUS_PENDING",
        InProgress = 2 "TASK_STATUS_IN_PROGRESS",
        Completed = 3 "TASK_STATUS_COMPLETED",
        Blocked = 4 "TASK_STATUS_BLOCKED",
        Abandoned = 5 "TASK_STATUS_ABANDONED",
    }
}

/// The `blocker_signature` of a task that is blocked because a task it depends on was abandoned.
pub const DEPENDENCY_ABANDONED: &str = "dependency_abandoned";
/// The `blocker_signature` of a task whose last allowed attempt expired, or failed without a signature of its own.
pub const ATTEMPTS_EXHAUSTED: &str = "attempts_exhausted";

/// One piece of a run's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Task {
    pub key: Key,
    pub id: String,
    pub run_key: Key,
    pub run_id: String,
    pub ordinal: i32,
    pub spec: TaskSpec,
    /// The ids of tasks of the same run.
    pub depends_on: Vec<String>,
    /// The path set of `allowed_paths`. None if the task has no paths, or its run ignores them.
    pub path_set_key: Option<Key>,
    pub status: TaskStatus,
    pub attempt_count: i32,
    pub failure_count: i32,
    pub implementation_summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub agent_id: Option<String>,
    /// The lease of the live claim. An expired lease stays here until the task is claimed or moved by anyone else, so that
    /// its late holder may still report.
    pub lease: Option<Lease>,
    /// The number of dependencies that are not completed.
    pub open_dependencies: i32,
    pub plan_version: i32,
    pub revision: i64,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

/// The part of a task that its planner writes. It never changes, except `not_before_time`, which a failure may move.
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
    /// Returns `not_before_time` if it is in the future.
    pub fn wait_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_before_time.filter(|_| !is_due(self.not_before_time, now))
    }
}

/// Returns whether a `not_before_time` has passed. A task without one is always due.
pub fn is_due(not_before_time: Option<Timestamp>, now: Timestamp) -> bool {
    not_before_time.is_none_or(|time| time <= now)
}

/// Returns whether an agent's capabilities contain all that a task requires.
pub fn covers(capabilities: &[String], required: &[String]) -> bool {
    required.iter().all(|name| capabilities.contains(name))
}

/// A task as a planner adds it.
#[derive(Debug, Clone, Default)]
pub struct TaskDraft {
    /// The name by which other drafts of the same request can depend on this one. Empty: none.
    pub key: String,
    /// The part of the task that the planner writes.
    pub spec: TaskSpec,
    /// Keys of drafts of the same request, or ids of tasks of the run.
    pub depends_on: Vec<String>,
}

/// The caller that reports on a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The caller that has this lease token.
    Holder(String),
    /// A caller without a lease token.
    Operator,
}

/// The role of a caller whose token is not stale, or who has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The caller holds the live claim.
    Holder,
    /// The caller's lease has expired, and nobody has claimed or moved the task since.
    LateHolder,
    /// The caller has no token.
    Operator,
}

/// The end of the work on a task.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct Ending {
    pub to: EndStatus,
    pub summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub result: Json,
    /// The time from now in which a failed task can't be claimed. None: it can be claimed at once.
    pub retry_delay: Option<Duration>,
}

impl Ending {
    /// Returns an ending without a report.
    pub fn new(to: EndStatus) -> Self {
        Self { to, summary: None, blocker_signature: None, result: Json::null(), retry_delay: None }
    }
}

/// The ways in which a caller can end the work on a task.
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
    /// Returns the status of the attempt that ends.
    pub fn attempt(self) -> AttemptStatus {
        match self {
            Self::Completed => AttemptStatus::Completed,
            Self::Blocked => AttemptStatus::Blocked,
            Self::Abandoned => AttemptStatus::Abandoned,
            Self::Failed => AttemptStatus::Failed,
            Self::Released => AttemptStatus::Released,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Blocked => "blocked",
            Self::Abandoned => "abandoned",
            Self::Failed => "failed",
            Self::Released => "released",
        }
    }

    fn starts_from(self, status: TaskStatus) -> bool {
        match status {
            TaskStatus::InProgress => true,
            TaskStatus::Pending => matches!(self, Self::Completed | Self::Blocked | Self::Abandoned),
            TaskStatus::Blocked => matches!(self, Self::Completed | Self::Abandoned),
            TaskStatus::Completed | TaskStatus::Abandoned => false,
        }
    }

    /// Returns whether a caller with this role may end a task with this status so. A late holder may do everything a holder
    /// may, except release the task, because the expiry has released the task already.
    fn is_allowed(self, role: Role, status: TaskStatus) -> bool {
        self.starts_from(status) || (role == Role::LateHolder && self != Self::Released)
    }
}

impl Task {
    /// Returns a new task of a run's plan, without its dependencies.
    pub fn new(key: Key, id: String, run: &Run, ordinal: i32, spec: TaskSpec, now: Timestamp) -> Self {
        Self {
            key,
            id,
            run_key: run.key,
            run_id: run.id.clone(),
            ordinal,
            spec,
            depends_on: Vec::new(),
            path_set_key: None,
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

    /// Returns whether an agent holds the task.
    pub fn is_held(&self) -> bool {
        self.status == TaskStatus::InProgress
    }

    /// Returns the role of a caller, or None if its token is stale.
    pub fn role_of(&self, caller: &Caller) -> Option<Role> {
        match caller {
            Caller::Operator => Some(Role::Operator),
            Caller::Holder(token) if self.lease.as_ref().is_none_or(|lease| lease.token != *token) => None,
            Caller::Holder(_) if self.is_held() => Some(Role::Holder),
            Caller::Holder(_) => Some(Role::LateHolder),
        }
    }

    /// Returns whether the task is ready: pending, with no open dependency, and due. Whether it can be claimed depends on
    /// its run, its paths and the agent too.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.status == TaskStatus::Pending && self.open_dependencies == 0 && is_due(self.spec.not_before_time, now)
    }

    /// Returns the task after a caller has ended the work on it. Fails if the caller's role or the task's status does not
    /// allow it.
    pub fn ended(&self, role: Role, ending: &Ending, run: RunStatus, now: Timestamp) -> Result<Self> {
        if !ending.to.is_allowed(role, self.status) {
            return Err(self.cannot_be(ending.to.word()));
        }
        if ending.to == EndStatus::Completed {
            self.check_completable(role)?;
        }
        let mut next = match ending.to {
            EndStatus::Completed => self.moved(TaskStatus::Completed, now),
            EndStatus::Blocked => self.moved(TaskStatus::Blocked, now),
            EndStatus::Abandoned => self.moved(TaskStatus::Abandoned, now),
            EndStatus::Released => return Ok(self.returned(run, now)),
            EndStatus::Failed => self.returned(run, now),
        };
        next.implementation_summary = ending.summary.clone();
        next.blocker_signature = ending.blocker_signature.clone();
        // An attempt counts as one failure at most: the expiry has counted the attempt of a late holder already.
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
            return Err(self.cannot_be(&format!("completed while {open} of its dependencies are not completed")));
        }
        Ok(())
    }

    /// Returns the error for a change that the task's status does not allow. `change` completes the sentence "it can't be …".
    pub fn cannot_be(&self, change: &str) -> Error {
        let current_status = self.status.name();
        let problem = format!("task {} is {}, so it can't be {change}", self.id, short_name(current_status));
        Error::WrongStatus { current_status, problem }
    }

    /// Returns the task after its attempt has ended without an end of the work: pending again, or abandoned if its run is
    /// being cancelled.
    fn returned(&self, run: RunStatus, now: Timestamp) -> Self {
        let is_cancelling = run == RunStatus::Cancelling;
        self.moved(if is_cancelling { TaskStatus::Abandoned } else { TaskStatus::Pending }, now)
    }

    fn block_if_exhausted(&mut self, signature: Option<&str>) {
        let is_exhausted = self.spec.max_attempts > 0 && self.failure_count >= self.spec.max_attempts;
        if is_exhausted && self.status == TaskStatus::Pending {
            self.status = TaskStatus::Blocked;
            self.blocker_signature = Some(signature.unwrap_or(ATTEMPTS_EXHAUSTED).to_owned());
        }
    }

    /// Returns the task after its lease has expired. The task keeps the lease unless it is abandoned, so that its holder may
    /// still report.
    pub fn expired(&self, run: RunStatus, now: Timestamp) -> Self {
        let mut next = self.returned(run, now);
        if next.status == TaskStatus::Pending {
            next.lease = self.lease.clone();
        }
        next.failure_count += 1;
        next.block_if_exhausted(None);
        next
    }

    /// Returns the task after its late holder has resumed the lease.
    pub fn resumed(&self, agent_id: Option<String>, lease: Lease, now: Timestamp) -> Self {
        let failure_count = self.failure_count - 1;
        Self { agent_id, lease: Some(lease), failure_count, ..self.moved(TaskStatus::InProgress, now) }
    }

    /// Returns the task after a claim.
    pub fn claimed(&self, agent_id: &str, lease: Lease, now: Timestamp) -> Self {
        let mut next = self.moved(TaskStatus::InProgress, now);
        next.agent_id = Some(agent_id.to_owned());
        next.lease = Some(lease);
        next.attempt_count += 1;
        next
    }

    /// Returns the task in another status, without a holder.
    pub fn moved(&self, to: TaskStatus, now: Timestamp) -> Self {
        let revision = self.revision + 1;
        Self { status: to, agent_id: None, lease: None, revision, update_time: now, ..self.clone() }
    }

    /// Returns the task after it was requeued. Fails if it is pending or completed.
    pub fn requeued(&self, now: Timestamp) -> Result<Self> {
        if matches!(self.status, TaskStatus::Pending | TaskStatus::Completed) {
            return Err(self.cannot_be("requeued"));
        }
        Ok(Self { failure_count: 0, blocker_signature: None, ..self.moved(TaskStatus::Pending, now) })
    }

    /// Returns the pending task after a task it depends on was abandoned.
    pub fn blocked_by_dependency(&self, now: Timestamp) -> Self {
        let signature = Some(DEPENDENCY_ABANDONED.to_owned());
        Self { blocker_signature: signature, ..self.moved(TaskStatus::Blocked, now) }
    }

    /// Returns the task that an abandoned dependency had blocked, after no dependency is abandoned any more.
    pub fn unblocked(&self, now: Timestamp) -> Self {
        Self { blocker_signature: None, ..self.moved(TaskStatus::Pending, now) }
    }
}

#[cfg(test)]
mod tests;
