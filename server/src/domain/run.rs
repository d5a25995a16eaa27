//! Runs: where they stand, and what may change that.

use super::time::Timestamp;
use super::{Key, Labels};
use crate::error::{Error, Result};

coded_enum! {
    /// Where a run stands.
    RunStatus {
        Planning = 1 "RUN_STATUS_PLANNING",
        Running = 2 "RUN_STATUS_RUNNING",
        Paused = 3 "RUN_STATUS_PAUSED",
        Blocked = 4 "RUN_STATUS_BLOCKED",
        Cancelling = 5 "RUN_STATUS_CANCELLING",
        Completed = 6 "RUN_STATUS_COMPLETED",
        Failed = 7 "RUN_STATUS_FAILED",
        Cancelled = 8 "RUN_STATUS_CANCELLED",
    }
}

impl RunStatus {
    /// The run has ended: it takes records, but no new work.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// UpdateRun may set it; the others have RPCs of their own.
    pub fn can_be_set(self) -> bool {
        !matches!(self, Self::Paused | Self::Cancelling | Self::Cancelled)
    }
}

/// One piece of work with a goal and a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
pub struct Run {
    pub key: Key,
    pub id: String,
    pub goal: String,
    pub repo_path: String,
    pub labels: Labels,
    pub status: RunStatus,
    pub summary: Option<String>,
    pub cycle_count: i32,
    pub replan_count: i32,
    pub plan_version: i32,
    pub current_task_id: Option<String>,
    pub revision: i64,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

/// A run as a caller asks for it.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct RunDraft {
    pub goal: String,
    pub repo_path: String,
    pub labels: Labels,
}

/// What UpdateRun changes: outer None leaves a field as it is, inner None clears it.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct RunUpdate {
    pub status: Option<RunStatus>,
    pub summary: Option<Option<String>>,
    pub current_task_id: Option<Option<String>>,
    pub expected_revision: Option<i64>,
}

impl Run {
    /// A new run.
    pub fn new(key: Key, id: String, draft: RunDraft, now: Timestamp) -> Self {
        Self {
            key,
            id,
            goal: draft.goal,
            repo_path: draft.repo_path,
            labels: draft.labels,
            status: RunStatus::Planning,
            summary: None,
            cycle_count: 0,
            replan_count: 0,
            plan_version: 0,
            current_task_id: None,
            revision: 1,
            create_time: now,
            update_time: now,
        }
    }

    /// The run after an update. Equal to `self` when the update changes nothing.
    pub fn updated(&self, update: &RunUpdate, now: Timestamp) -> Result<Self> {
        check_revision(update.expected_revision, self.revision)?;
        if self.status == RunStatus::Cancelling {
            let problem = "the run is being cancelled: nothing but its end can change it".to_owned();
            return Err(Error::WrongStatus { current_status: self.status.name(), problem });
        }
        let mut next = self.clone();
        next.status = update.status.unwrap_or(self.status);
        next.summary = update.summary.clone().unwrap_or(next.summary);
        next.current_task_id = update.current_task_id.clone().unwrap_or(next.current_task_id);
        if next != *self {
            next.touch(now);
        }
        Ok(next)
    }

    /// Counts a change.
    pub fn touch(&mut self, now: Timestamp) {
        self.revision += 1;
        self.update_time = now;
    }

    /// Refuses new work for a run that has ended or is being ended.
    pub fn check_takes_work(&self) -> Result<()> {
        if self.status.is_terminal() || self.status == RunStatus::Cancelling {
            return Err(Error::RunEnded { current_status: self.status.name() });
        }
        Ok(())
    }

    /// Its tasks can be claimed.
    pub fn gives_out_tasks(&self) -> bool {
        matches!(self.status, RunStatus::Planning | RunStatus::Running | RunStatus::Blocked)
    }

    /// Refuses to requeue while the run is being cancelled: what is requeued then would never be given out.
    pub fn check_takes_requeue(&self) -> Result<()> {
        if self.status == RunStatus::Cancelling {
            return Err(Error::RunEnded { current_status: self.status.name() });
        }
        Ok(())
    }
}

/// Refuses a change that was meant for another revision.
pub fn check_revision(expected: Option<i64>, actual: i64) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => Err(Error::RevisionMismatch { expected, actual }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(status: RunStatus) -> Run {
        let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Labels::new() };
        Run { status, ..Run::new(1, "run".into(), draft, Timestamp::from_micros(0)) }
    }

    const LATER: Timestamp = Timestamp::from_micros(5);

    #[test]
    fn an_update_that_changes_nothing_leaves_the_revision() {
        let before = run(RunStatus::Planning);
        let update = RunUpdate { status: Some(RunStatus::Planning), summary: Some(None), ..RunUpdate::default() };
        assert_eq!(before.updated(&update, LATER), Ok(before.clone()));
    }

    #[test]
    fn a_field_is_left_set_or_cleared() {
        let update = RunUpdate { summary: Some(Some("s".into())), ..RunUpdate::default() };
        let set = run(RunStatus::Running).updated(&update, LATER).unwrap();
        assert_eq!((set.summary.as_deref(), set.revision, set.update_time), (Some("s"), 2, LATER));
        let kept = set.updated(&RunUpdate { status: Some(RunStatus::Failed), ..RunUpdate::default() }, LATER).unwrap();
        assert_eq!(kept.summary.as_deref(), Some("s"));
        let cleared = kept.updated(&RunUpdate { summary: Some(None), ..RunUpdate::default() }, LATER).unwrap();
        assert_eq!(cleared.summary, None);
    }

    #[test]
    fn a_run_being_cancelled_is_left_alone() {
        let refused = run(RunStatus::Cancelling).updated(&RunUpdate::default(), LATER);
        assert!(matches!(refused, Err(Error::WrongStatus { .. })));
    }

    #[test]
    fn only_a_run_that_goes_on_takes_work() {
        for status in RunStatus::ALL {
            let ends = status.is_terminal() || *status == RunStatus::Cancelling;
            assert_eq!(run(*status).check_takes_work().is_err(), ends, "{status:?}");
        }
    }
}
