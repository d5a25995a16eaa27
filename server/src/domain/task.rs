//! Tasks: how they move, and who may move them.

use std::time::Duration;

use super::attempt::AttemptStatus;
use super::code::words;
use super::json::Json;
use super::lease::Lease;
use super::run::{Run, RunStatus};
use super::time::Timestamp;
use super::{Key, Labels};
use crate::error::{Error, Result};

coded_enum! {
    /// Where a task stands.
    TaskStatus {
        Pending = 1 "TASK_STATUS_PENDING",
        InProgress = 2 "TASK_STATUS_IN_PROGRESS",
        Completed = 3 "TASK_STATUS_COMPLETED",
        Blocked = 4 "TASK_STATUS_BLOCKED",
        Abandoned = 5 "TASK_STATUS_ABANDONED",
    }
}

/// `blocker_signature` of a pending task when a task it depends on is abandoned.
pub const DEPENDENCY_ABANDONED: &str = "dependency_abandoned";
/// `blocker_signature` of a task whose last attempt failed or ran out without a reason of its own.
pub const ATTEMPTS_EXHAUSTED: &str = "attempts_exhausted";

/// One piece of a run's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
pub struct Task {
    pub key: Key,
    pub id: String,
    pub run_key: Key,
    pub run_id: String,
    pub ordinal: i32,
    pub spec: TaskSpec,
    /// Ids.
    pub depends_on: Vec<String>,
    /// Its allowed_paths as a set, if they keep it apart from other tasks.
    pub path_set_key: Option<Key>,
    pub status: TaskStatus,
    pub attempt_count: i32,
    pub failure_count: i32,
    pub implementation_summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub agent_id: Option<String>,
    /// Of the live claim; or of one that ran out, as long as nobody has taken or moved the task since.
    pub lease: Option<Lease>,
    /// How many dependencies are not completed.
    pub open_dependencies: i32,
    pub plan_version: i32,
    pub revision: i64,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

/// What a planner says of a task. It never changes, but for `not_before_time`, which a failure may move.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
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

/// A task as a planner writes it down.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct TaskDraft {
    /// Empty: no other draft names it.
    pub key: String,
    pub spec: TaskSpec,
    /// Keys of the request or ids of tasks of the run.
    pub depends_on: Vec<String>,
}

/// Who reports on a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Whoever has this lease token.
    Holder(String),
    /// Somebody without one.
    Operator,
}

/// What a caller is to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has the live claim.
    Holder,
    /// Its lease has run out, and nobody has taken or moved the task since.
    LateHolder,
    /// It has no token.
    Operator,
}

/// What ends the work on a task.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Ending {
    pub to: EndStatus,
    pub summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub result: Json,
    /// Of a failure: not to be given out again before so long from now.
    pub retry_delay: Option<Duration>,
}

/// What a caller can end an attempt as.
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
    /// Of the live attempt.
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

    /// A late holder is as good as a holder, but has nothing left to hand back.
    fn starts_for(self, role: Role, status: TaskStatus) -> bool {
        self.starts_from(status) || (role == Role::LateHolder && self != Self::Released)
    }
}

impl Task {
    /// A new task of a run's plan, with its dependencies still to be named.
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

    /// Somebody works on it.
    pub fn is_held(&self) -> bool {
        self.status == TaskStatus::InProgress
    }

    /// What a caller is to it; None if its token is stale.
    pub fn role_of(&self, caller: &Caller) -> Option<Role> {
        match caller {
            Caller::Operator => Some(Role::Operator),
            Caller::Holder(token) if self.lease.as_ref().is_none_or(|lease| lease.token != *token) => None,
            Caller::Holder(_) if self.is_held() => Some(Role::Holder),
            Caller::Holder(_) => Some(Role::LateHolder),
        }
    }

    /// A claim of it could be given out now, as far as the task itself can tell: there are also paths and the run.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        let in_time = self.spec.not_before_time.is_none_or(|time| time <= now);
        self.status == TaskStatus::Pending && self.open_dependencies == 0 && in_time
    }

    /// The task after somebody ended the work on it.
    pub fn ended(&self, role: Role, ending: &Ending, run: RunStatus, now: Timestamp) -> Result<Self> {
        if !ending.to.starts_for(role, self.status) {
            return Err(self.cannot_be(ending.to.word()));
        }
        if ending.to == EndStatus::Completed {
            self.check_completable(role)?;
        }
        let mut next = match ending.to {
            EndStatus::Completed => self.moved(TaskStatus::Completed, now),
            EndStatus::Blocked => self.moved(TaskStatus::Blocked, now),
            EndStatus::Abandoned => self.moved(TaskStatus::Abandoned, now),
            EndStatus::Released => return Ok(self.handed_back(run, now)),
            EndStatus::Failed => self.handed_back(run, now),
        };
        next.implementation_summary = ending.summary.clone();
        next.blocker_signature = ending.blocker_signature.clone();
        // An attempt counts once: one that ran out was counted then.
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
            return Err(Error::LeaseRequired);
        }
        if self.open_dependencies > 0 {
            let problem = format!("{} of its dependencies are not completed", self.open_dependencies);
            return Err(self.wrong_status(problem));
        }
        Ok(())
    }

    fn cannot_be(&self, what: &str) -> Error {
        self.wrong_status(format!("a task that is {} can't be {what}", words(self.status.name())))
    }

    fn wrong_status(&self, problem: String) -> Error {
        Error::WrongStatus { current_status: self.status.name(), problem }
    }

    /// Given up by its holder: pending again, or given up for good while the run is being cancelled.
    fn handed_back(&self, run: RunStatus, now: Timestamp) -> Self {
        let cancelling = run == RunStatus::Cancelling;
        self.moved(if cancelling { TaskStatus::Abandoned } else { TaskStatus::Pending }, now)
    }

    fn block_if_exhausted(&mut self, signature: Option<&str>) {
        let exhausted = self.spec.max_attempts > 0 && self.failure_count >= self.spec.max_attempts;
        if exhausted && self.status == TaskStatus::Pending {
            self.status = TaskStatus::Blocked;
            self.blocker_signature = Some(signature.unwrap_or(ATTEMPTS_EXHAUSTED).to_owned());
        }
    }

    /// The task after its lease ran out. It keeps the lease: until somebody moves it, its holder may still report.
    pub fn expired(&self, run: RunStatus, now: Timestamp) -> Self {
        let mut next = self.handed_back(run, now);
        if next.status == TaskStatus::Pending {
            next.lease = self.lease.clone();
        }
        next.failure_count += 1;
        next.block_if_exhausted(None);
        next
    }

    /// The task after its late holder took its lease up again.
    pub fn resumed(&self, agent_id: Option<String>, lease: Lease, now: Timestamp) -> Self {
        let failure_count = self.failure_count - 1;
        Self { agent_id, lease: Some(lease), failure_count, ..self.moved(TaskStatus::InProgress, now) }
    }

    /// The task after a claim.
    pub fn claimed(&self, agent_id: &str, lease: Lease, now: Timestamp) -> Self {
        let mut next = self.moved(TaskStatus::InProgress, now);
        next.agent_id = Some(agent_id.to_owned());
        next.lease = Some(lease);
        next.attempt_count += 1;
        next
    }

    /// The task in another status; a claim on it, if there was one, is over.
    pub fn moved(&self, to: TaskStatus, now: Timestamp) -> Self {
        let revision = self.revision + 1;
        Self { status: to, agent_id: None, lease: None, revision, update_time: now, ..self.clone() }
    }

    /// The task after somebody put it back into the plan.
    pub fn requeued(&self, now: Timestamp) -> Result<Self> {
        if matches!(self.status, TaskStatus::Pending | TaskStatus::Completed) {
            return Err(self.cannot_be("requeued"));
        }
        Ok(Self { failure_count: 0, blocker_signature: None, ..self.moved(TaskStatus::Pending, now) })
    }

    /// The pending task after one it depends on was abandoned.
    pub fn blocked_by_dependency(&self, now: Timestamp) -> Self {
        let signature = Some(DEPENDENCY_ABANDONED.to_owned());
        Self { blocker_signature: signature, ..self.moved(TaskStatus::Blocked, now) }
    }

    /// The task that was so blocked, after no task it depends on is abandoned any more.
    pub fn unblocked(&self, now: Timestamp) -> Self {
        Self { blocker_signature: None, ..self.moved(TaskStatus::Pending, now) }
    }
}

/// All that is required is among what is there.
pub fn covers(capabilities: &[String], required: &[String]) -> bool {
    required.iter().all(|name| capabilities.contains(name))
}

#[cfg(test)]
mod tests;
