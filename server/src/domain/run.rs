//! Runs: their statuses, and the rules for changing them.

use std::fmt::Display;
use std::time::Duration;

use super::code::short_name;
use super::time::Timestamp;
use super::{Key, Labels};
use crate::error::{Error, Result};

coded_enum! {
    /// The status of a run.
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
    /// Returns whether the run has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Returns whether the run takes new work. A run that has ended or is being cancelled still takes records.
    pub fn takes_work(self) -> bool {
        !self.is_terminal() && self != Self::Cancelling
    }

    /// Returns whether tasks of the run can be claimed.
    pub fn allows_claims(self) -> bool {
        matches!(self, Self::Planning | Self::Running | Self::Blocked)
    }

    /// Checks that tasks of the run can be requeued. Fails while the run is being cancelled, because a requeued task could
    /// never be claimed.
    pub fn check_takes_requeue(self, run_id: &str) -> Result<()> {
        if self == Self::Cancelling {
            return Err(Error::RunEnded { run_id: run_id.to_owned(), current_status: self.name() });
        }
        Ok(())
    }

    /// Returns whether UpdateRun may set the status. The other statuses have RPCs of their own.
    pub fn can_be_set(self) -> bool {
        !matches!(self, Self::Paused | Self::Cancelling | Self::Cancelled)
    }
}

/// The label that turns the check of path conflicts on or off.
const PATH_POLICY: &str = "path_policy";

/// Checks the labels of a run that have a meaning.
pub fn check_labels(labels: &Labels) -> Result<()> {
    match labels.get(PATH_POLICY).map(String::as_str) {
        None | Some("on" | "off") => Ok(()),
        Some(other) => Err(Error::field("labels", format!("{PATH_POLICY} must be \"on\" or \"off\", not {other:?}"))),
    }
}

/// A run: one goal, with a plan of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Run {
    pub key: Key,
    pub id: String,
    pub goal: String,
    pub repo_path: String,
    pub labels: Labels,
    pub status: RunStatus,
    pub status_reason: String,
    /// The status that a paused run gets back when it resumes. None unless the run is paused.
    pub status_before_pause: Option<RunStatus>,
    /// The time at which the grace of the holders ends. None unless the run is being cancelled.
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

/// A run as a caller creates it.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct RunDraft {
    pub goal: String,
    pub repo_path: String,
    pub labels: Labels,
}

/// The changes of an UpdateRun call. An outer None leaves a field as it is; an inner None clears it.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // The proto documents them.
pub struct RunUpdate {
    pub status: Option<RunStatus>,
    pub summary: Option<Option<String>>,
    pub current_task_id: Option<Option<String>>,
    pub expected_revision: Option<i64>,
}

impl Run {
    /// Returns a new run.
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

    /// Returns the run after an update. If the update changes nothing, the result equals `self`.
    pub fn updated(&self, update: &RunUpdate, now: Timestamp) -> Result<Self> {
        self.check_revision(update.expected_revision)?;
        if self.status == RunStatus::Cancelling {
            return Err(self.wrong_status("can't be updated"));
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

    /// Sets the status, and clears the fields that belong to the previous status.
    fn move_to(&mut self, status: RunStatus, reason: &str) {
        self.status = status;
        reason.clone_into(&mut self.status_reason);
        self.status_before_pause = None;
        self.grace_end_time = None;
    }

    /// Returns the run with one more cycle.
    pub fn with_next_cycle(&self, now: Timestamp) -> Self {
        let mut next = Self { cycle_count: self.cycle_count.saturating_add(1), ..self.clone() };
        next.touch(now);
        next
    }

    /// Returns the run with one more replan.
    pub fn with_next_replan(&self, now: Timestamp) -> Self {
        let mut next = Self { replan_count: self.replan_count.saturating_add(1), ..self.clone() };
        next.touch(now);
        next
    }

    /// Returns the run with the next version of its plan.
    pub fn with_next_plan(&self, now: Timestamp) -> Self {
        let mut next = Self { plan_version: self.plan_version + 1, ..self.clone() };
        next.touch(now);
        next
    }

    /// Returns the paused run. If the run is paused already, the result equals `self`.
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

    /// Returns the run with its status from before the pause. If the run is not paused, the result equals `self`.
    pub fn resumed(&self, reason: &str, now: Timestamp) -> Result<Self> {
        self.check_takes_work()?;
        let mut next = self.clone();
        if self.status == RunStatus::Paused {
            // An imported run may be paused without a previous status.
            next.move_to(self.status_before_pause.unwrap_or(RunStatus::Running), reason);
            next.touch(now);
        }
        Ok(next)
    }

    /// Returns the run while it is being cancelled. If it is already, with a grace that ends no later, the result equals
    /// `self`.
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

    /// Returns whether the holders have had their grace.
    pub fn is_grace_over(&self, now: Timestamp) -> bool {
        self.grace_end_time.is_some_and(|end| end <= now)
    }

    /// Returns the run after its cancellation.
    pub fn cancelled(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.move_to(RunStatus::Cancelled, &self.status_reason);
        next.touch(now);
        next
    }

    /// Returns whether the label `path_policy` turns the check of path conflicts off.
    pub fn ignores_paths(&self) -> bool {
        self.labels.get(PATH_POLICY).is_some_and(|policy| policy == "off")
    }

    /// Counts a change of the run.
    pub fn touch(&mut self, now: Timestamp) {
        self.revision += 1;
        self.update_time = now;
    }

    /// Checks that the run has the plan version that the caller expects. None expects nothing.
    pub fn check_plan_version(&self, expected: Option<i32>) -> Result<()> {
        match expected {
            Some(expected) if expected != self.plan_version => {
                Err(Error::PlanVersionMismatch { run_id: self.id.clone(), expected, actual: self.plan_version })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the run has ended, so that it can be deleted.
    pub fn check_deletable(&self, expected_revision: Option<i64>) -> Result<()> {
        self.check_revision(expected_revision)?;
        if !self.status.is_terminal() {
            return Err(self.wrong_status("can't be deleted: only a run that has ended can be deleted"));
        }
        Ok(())
    }

    /// Checks that the run takes new work.
    pub fn check_takes_work(&self) -> Result<()> {
        if self.status.takes_work() { Ok(()) } else { Err(self.ended_error()) }
    }

    fn check_revision(&self, expected: Option<i64>) -> Result<()> {
        check_revision(format_args!("run {}", self.id), expected, self.revision)
    }

    fn ended_error(&self) -> Error {
        Error::RunEnded { run_id: self.id.clone(), current_status: self.status.name() }
    }

    fn wrong_status(&self, consequence: &str) -> Error {
        let current_status = self.status.name();
        let problem = format!("run {} is {}, so it {consequence}", self.id, short_name(current_status));
        Error::WrongStatus { current_status, problem }
    }
}

/// Checks that a thing has the revision that the caller expects. None expects nothing.
pub fn check_revision(thing: impl Display, expected: Option<i64>, actual: i64) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => {
            Err(Error::RevisionMismatch { thing: thing.to_string(), expected, actual })
        }
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
    fn update_without_a_change_keeps_the_revision() {
        let before = run(RunStatus::Planning);
        let update = RunUpdate { status: Some(RunStatus::Planning), summary: Some(None), ..RunUpdate::default() };
        assert_eq!(before.updated(&update, LATER), Ok(before.clone()));
    }

    #[test]
    fn update_keeps_sets_or_clears_a_field() {
        let update = RunUpdate { summary: Some(Some("s".into())), ..RunUpdate::default() };
        let set = run(RunStatus::Running).updated(&update, LATER).unwrap();
        assert_eq!((set.summary.as_deref(), set.revision, set.update_time), (Some("s"), 2, LATER));
        let kept = set.updated(&RunUpdate { status: Some(RunStatus::Failed), ..RunUpdate::default() }, LATER).unwrap();
        assert_eq!(kept.summary.as_deref(), Some("s"));
        let cleared = kept.updated(&RunUpdate { summary: Some(None), ..RunUpdate::default() }, LATER).unwrap();
        assert_eq!(cleared.summary, None);
    }

    #[test]
    fn update_of_a_cancelling_run_is_refused() {
        let refused = run(RunStatus::Cancelling).updated(&RunUpdate::default(), LATER);
        assert!(matches!(refused, Err(Error::WrongStatus { .. })));
    }

    #[test]
    fn run_that_ends_takes_no_work() {
        for status in RunStatus::ALL {
            let ends = status.is_terminal() || *status == RunStatus::Cancelling;
            assert_eq!(run(*status).check_takes_work().is_err(), ends, "{status:?}");
        }
    }
}
