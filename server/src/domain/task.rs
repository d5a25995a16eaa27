//! Tasks: how they move, and who may move them.

use super::attempt::AttemptStatus;
use super::json::Json;
use super::run::Run;
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
    pub status: TaskStatus,
    pub attempt_count: i32,
    pub failure_count: i32,
    pub implementation_summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub agent_id: Option<String>,
    /// The token of the live claim. Never shown but in the claim's answer.
    pub lease_token: Option<String>,
    /// How many dependencies are not completed.
    pub open_dependencies: i32,
    pub plan_version: i32,
    pub revision: i64,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

/// What a planner says of a task; it never changes.
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

/// What ends the work on a task.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Ending {
    pub to: EndStatus,
    pub summary: Option<String>,
    pub blocker_signature: Option<String>,
    pub result: Json,
}

/// What a caller can end a task as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EndStatus {
    Completed,
    Blocked,
    Abandoned,
}

impl EndStatus {
    /// Of the task.
    pub fn task(self) -> TaskStatus {
        match self {
            Self::Completed => TaskStatus::Completed,
            Self::Blocked => TaskStatus::Blocked,
            Self::Abandoned => TaskStatus::Abandoned,
        }
    }

    /// Of the live attempt.
    pub fn attempt(self) -> AttemptStatus {
        match self {
            Self::Completed => AttemptStatus::Completed,
            Self::Blocked => AttemptStatus::Blocked,
            Self::Abandoned => AttemptStatus::Abandoned,
        }
    }

    fn starts_from(self, status: TaskStatus) -> bool {
        match status {
            TaskStatus::Pending | TaskStatus::InProgress => true,
            TaskStatus::Blocked => self != Self::Blocked,
            TaskStatus::Completed | TaskStatus::Abandoned => false,
        }
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
            status: TaskStatus::Pending,
            attempt_count: 0,
            failure_count: 0,
            implementation_summary: None,
            blocker_signature: None,
            agent_id: None,
            lease_token: None,
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

    /// Whoever has this token holds it.
    pub fn is_held_by(&self, token: &str) -> bool {
        self.is_held() && self.lease_token.as_deref() == Some(token)
    }

    /// The task after somebody ended the work on it. A holder's token was looked at before.
    pub fn ended(&self, by: &Caller, ending: &Ending, now: Timestamp) -> Result<Self> {
        if !ending.to.starts_from(self.status) {
            return Err(self.wrong_status(format!(
                "a task can't go from {} to {}",
                self.status.name(),
                ending.to.task().name()
            )));
        }
        if ending.to == EndStatus::Completed {
            self.check_completable(by)?;
        }
        let mut next = self.moved(ending.to.task(), now);
        next.implementation_summary = ending.summary.clone();
        next.blocker_signature = ending.blocker_signature.clone();
        Ok(next)
    }

    fn check_completable(&self, by: &Caller) -> Result<()> {
        if self.is_held() && *by == Caller::Operator {
            return Err(Error::LeaseRequired);
        }
        if self.open_dependencies > 0 {
            let problem = format!("{} of its dependencies are not completed", self.open_dependencies);
            return Err(self.wrong_status(problem));
        }
        Ok(())
    }

    fn wrong_status(&self, problem: String) -> Error {
        Error::WrongStatus { current_status: self.status.name(), problem }
    }

    /// The task after a claim.
    pub fn claimed(&self, agent_id: &str, token: String, now: Timestamp) -> Self {
        let mut next = self.moved(TaskStatus::InProgress, now);
        next.agent_id = Some(agent_id.to_owned());
        next.lease_token = Some(token);
        next.attempt_count += 1;
        next
    }

    /// The task in another status; a claim on it, if there was one, is over.
    pub fn moved(&self, to: TaskStatus, now: Timestamp) -> Self {
        let revision = self.revision + 1;
        Self { status: to, agent_id: None, lease_token: None, revision, update_time: now, ..self.clone() }
    }

    /// The pending task after one it depends on was abandoned.
    pub fn blocked_by_dependency(&self, now: Timestamp) -> Self {
        let signature = Some(DEPENDENCY_ABANDONED.to_owned());
        Self { blocker_signature: signature, ..self.moved(TaskStatus::Blocked, now) }
    }
}

/// All that is required is among what is there.
pub fn covers(capabilities: &[String], required: &[String]) -> bool {
    required.iter().all(|name| capabilities.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::RunDraft;

    const NOW: Timestamp = Timestamp::from_micros(7);

    fn task(status: TaskStatus) -> Task {
        let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Labels::new() };
        let run = Run::new(1, "r".into(), draft, NOW);
        Task {
            status,
            attempt_count: 1,
            implementation_summary: Some("before".into()),
            blocker_signature: Some("before".into()),
            lease_token: (status == TaskStatus::InProgress).then(|| "token".into()),
            ..Task::new(1, "t".into(), &run, 1, TaskSpec::default(), NOW)
        }
    }

    fn ending(to: EndStatus) -> Ending {
        Ending { to, summary: Some("s".into()), blocker_signature: None, result: Json::null() }
    }

    #[test]
    fn each_ending_starts_from_its_statuses_only() {
        use TaskStatus::{Abandoned, Blocked, Completed, InProgress, Pending};
        let allowed = [
            (EndStatus::Completed, vec![Pending, InProgress, Blocked]),
            (EndStatus::Blocked, vec![Pending, InProgress]),
            (EndStatus::Abandoned, vec![Pending, InProgress, Blocked]),
        ];
        for (to, from) in allowed {
            for status in [Pending, InProgress, Completed, Blocked, Abandoned] {
                let ended = task(status).ended(&Caller::Holder("token".into()), &ending(to), NOW);
                assert_eq!(ended.is_ok(), from.contains(&status), "{status:?} to {to:?}");
            }
        }
    }

    #[test]
    fn completing_a_held_task_takes_its_token() {
        let refused = task(TaskStatus::InProgress).ended(&Caller::Operator, &ending(EndStatus::Completed), NOW);
        assert_eq!(refused, Err(Error::LeaseRequired));
        assert!(task(TaskStatus::InProgress).ended(&Caller::Operator, &ending(EndStatus::Blocked), NOW).is_ok());
    }

    #[test]
    fn no_task_is_completed_before_its_dependencies() {
        let waiting = Task { open_dependencies: 1, ..task(TaskStatus::Pending) };
        let refused = waiting.ended(&Caller::Operator, &ending(EndStatus::Completed), NOW);
        assert!(matches!(refused, Err(Error::WrongStatus { .. })));
        assert!(waiting.ended(&Caller::Operator, &ending(EndStatus::Abandoned), NOW).is_ok());
    }

    #[test]
    fn an_ending_takes_the_claim_away_and_sets_what_it_brings() {
        let ended = task(TaskStatus::InProgress)
            .ended(&Caller::Holder("token".into()), &ending(EndStatus::Completed), NOW)
            .unwrap();
        assert!(!ended.is_held_by("token"));
        assert_eq!((ended.implementation_summary.as_deref(), ended.blocker_signature), (Some("s"), None));
        assert_eq!(ended.revision, 2);
    }

    #[test]
    fn capabilities_cover_what_is_required() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(covers(&[], &[]));
        assert!(covers(&names(&["a", "b"]), &names(&["b"])));
        assert!(!covers(&names(&["a"]), &names(&["a", "b"])));
    }
}
