//! Runs: where they stand, and what may change that.

use std::time::Duration;

use super::code::words;
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

    /// Tasks of a run that stands so can be claimed.
    pub fn gives_out_tasks(self) -> bool {
        matches!(self, Self::Planning | Self::Running | Self::Blocked)
    }

    /// Refuses to requeue while the run is being cancelled: what is requeued then would never be given out.
    pub fn check_takes_requeue(self) -> Result<()> {
        if self == Self::Cancelling {
            return Err(Error::RunEnded { current_status: self.name() });
        }
        Ok(())
    }

    /// UpdateRun may set it; the others have RPCs of their own.
    pub fn can_be_set(self) -> bool {
        !matches!(self, Self::Paused | Self::Cancelling | Self::Cancelled)
    }
}

/// The label that says whether paths are looked at.
const PATH_POLICY: &str = "path_policy";

/// Says what is wrong with the labels of a run that have a meaning.
pub fn check_labels(labels: &Labels) -> Result<()> {
    match labels.get(PATH_POLICY).map(String::as_str) {
        None | Some("on" | "off") => Ok(()),
        Some(other) => Err(Error::field("labels", format!("path_policy is {other:?}, neither on nor off"))),
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
    pub status_reason: String,
    /// While it is paused: the status it gets back.
    pub status_before_pause: Option<RunStatus>,
    /// While it is being cancelled: when its holders have had their time.
    pub grace_end_time: Option<Timestamp>,
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
            status_reason: String::new(),
            status_before_pause: None,
            grace_end_time: None,
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
        if let Some(status) = update.status.filter(|status| *status != self.status) {
            next.move_to(status, "");
        }
        next.summary = update.summary.clone().unwrap_or(next.summary);
        next.current_task_id = update.current_task_id.clone().unwrap_or(next.current_task_id);
        if next != *self {
            next.touch(now);
        }
        Ok(next)
    }

    /// What another status does not take with it.
    fn move_to(&mut self, status: RunStatus, reason: &str) {
        self.status = status;
        reason.clone_into(&mut self.status_reason);
        self.status_before_pause = None;
        self.grace_end_time = None;
    }

    /// The run paused; equal to `self` if it is already.
    pub fn paused(&self, reason: &str, now: Timestamp) -> Result<Self> {
        self.check_takes_work()?;
        let mut next = self.clone();
        if self.status != RunStatus::Paused {
            next.move_to(RunStatus::Paused, reason);
            next.status_before_pause = Some(self.status);
            next.touch(now);
        }
        Ok(next)
    }

    /// The run as it was before it was paused; equal to `self` if it is not.
    pub fn resumed(&self, reason: &str, now: Timestamp) -> Result<Self> {
        self.check_takes_work()?;
        let mut next = self.clone();
        if self.status == RunStatus::Paused {
            // An imported run may be paused without a status from before.
            next.move_to(self.status_before_pause.unwrap_or(RunStatus::Running), reason);
            next.touch(now);
        }
        Ok(next)
    }

    /// The run with its end in sight; equal to `self` if it is already, and as near.
    pub fn cancelling(&self, reason: &str, grace: Duration, now: Timestamp) -> Result<Self> {
        let mut next = self.clone();
        let end = now.plus(grace);
        match (self.status, self.grace_end_time) {
            (RunStatus::Completed | RunStatus::Failed, _) => return Err(self.ended_error()),
            (RunStatus::Cancelled, _) => return Ok(next),
            (RunStatus::Cancelling, Some(before)) if before <= end => return Ok(next),
            (RunStatus::Cancelling, _) => {}
            _ => next.move_to(RunStatus::Cancelling, reason),
        }
        next.grace_end_time = Some(end);
        next.touch(now);
        Ok(next)
    }

    /// The run whose cancellation is done.
    pub fn cancelled(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.move_to(RunStatus::Cancelled, &self.status_reason);
        next.touch(now);
        next
    }

    /// Its label `path_policy` says that paths keep nobody from anything.
    pub fn ignores_paths(&self) -> bool {
        self.labels.get(PATH_POLICY).is_some_and(|policy| policy == "off")
    }

    fn ended_error(&self) -> Error {
        Error::RunEnded { current_status: self.status.name() }
    }

    /// Counts a change.
    pub fn touch(&mut self, now: Timestamp) {
        self.revision += 1;
        self.update_time = now;
    }

    /// Refuses to delete a run that has not ended, or is not as expected.
    pub fn check_deletable(&self, expected_revision: Option<i64>) -> Result<()> {
        check_revision(expected_revision, self.revision)?;
        if self.status.is_terminal() {
            return Ok(());
        }
        let problem = format!("the run is {}: only one that has ended can be deleted", words(self.status.name()));
        Err(Error::WrongStatus { current_status: self.status.name(), problem })
    }

    /// Refuses new work for a run that has ended or is being ended.
    pub fn check_takes_work(&self) -> Result<()> {
        if self.status.is_terminal() || self.status == RunStatus::Cancelling {
            return Err(self.ended_error());
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
