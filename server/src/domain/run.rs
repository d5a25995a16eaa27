//! This module defines runs, their statuses, and the rules for changing a run.

use std::fmt::Display;
use std::time::Duration;

use super::code::short_name;
use super::time::Timestamp;
use super::{Key, Labels};
use crate::error::{Error, Result};

coded_enum! {
    /// Lists the possible statuses of a run.
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
    /// Returns whether a run with this status has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Returns whether a run with this status is active, which means that the run has not ended and is not being
    /// cancelled. A run that is not active still accepts events, checkpoints and artifacts.
    pub fn is_active(self) -> bool {
        !self.is_terminal() && self != Self::Cancelling
    }

    /// Checks that the run `run_id`, which has this status, is active. Fails with RunEnded otherwise.
    pub fn check_active(self, run_id: &str) -> Result<()> {
        if self.is_active() { Ok(()) } else { Err(self.run_ended_error(run_id)) }
    }

    fn run_ended_error(self, run_id: &str) -> Error {
        Error::RunEnded { run_id: run_id.to_owned(), current_status: self.name() }
    }

    /// Returns whether agents can claim tasks of a run with this status.
    pub fn allows_claims(self) -> bool {
        matches!(self, Self::Planning | Self::Running | Self::Blocked)
    }

    /// Checks that tasks of a run with this status can be requeued. Fails while the run is being cancelled, because no
    /// agent could claim a requeued task.
    pub fn check_allows_requeue(self, run_id: &str) -> Result<()> {
        if self == Self::Cancelling {
            return Err(Error::RunEnded { run_id: run_id.to_owned(), current_status: self.name() });
        }
        Ok(())
    }

    /// Returns whether an UpdateRun call can set this status. Only PauseRun and CancelRun calls lead to the other
    /// statuses.
    pub fn can_be_set(self) -> bool {
        !matches!(self, Self::Paused | Self::Cancelling | Self::Cancelled)
    }
}

/// The key of the label that turns the check for path conflicts on or off.
const PATH_POLICY: &str = "path_policy";

/// Checks the labels that Runhub interprets. Fails if the label `path_policy` is set and is neither `on` nor `off`.
pub fn check_labels(labels: &Labels) -> Result<()> {
    match labels.get(PATH_POLICY).map(String::as_str) {
        None | Some("on" | "off") => Ok(()),
        Some(other) => {
            Err(Error::field("labels", format!("the label {PATH_POLICY} must be \"on\" or \"off\", not {other:?}")))
        }
    }
}

/// Represents a run, which has one goal and a plan of tasks.
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
    /// The status to which a paused run returns when the run is resumed. If the run is not paused, or if the run was
    /// imported in the status PAUSED, the value is None.
    pub status_before_pause: Option<RunStatus>,
    /// The end of the grace period in which agents can finish leased tasks. If the run is not being cancelled, the
    /// value is None.
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

/// Contains the fields of a run that a caller creates.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct RunDraft {
    pub goal: String,
    pub repo_path: String,
    pub labels: Labels,
}

/// Contains the changes of an UpdateRun call. An outer None leaves a field unchanged, and an inner None clears the
/// field.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // The proto documents them.
pub struct RunUpdate {
    pub status: Option<RunStatus>,
    pub summary: Option<Option<String>>,
    pub current_task_id: Option<Option<String>>,
    pub expected_revision: Option<i64>,
}

impl Run {
    /// Returns a new run in the status PLANNING with the fields of `draft`.
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

    /// Returns the run after an update. If the update changes nothing, the result equals `self`. Fails if the run has
    /// another revision than the caller expects, or if the run is being cancelled.
    pub fn updated(&self, update: &RunUpdate, now: Timestamp) -> Result<Self> {
        self.check_revision(update.expected_revision)?;
        if self.status == RunStatus::Cancelling {
            return Err(self.wrong_status_error("can't be updated"));
        }
        let mut next = self.clone();
        if let Some(status) = update.status.filter(|status| *status != self.status) {
            next.set_status(status, "");
        }
        next.summary = update.summary.clone().unwrap_or(next.summary);
        next.current_task_id = update.current_task_id.clone().unwrap_or(next.current_task_id);
        if next != *self {
            next.mark_changed(now);
        }
        Ok(next)
    }

    /// Sets the status and the status reason, and clears `status_before_pause` and `grace_end_time`, which belong to
    /// the previous status.
    fn set_status(&mut self, status: RunStatus, reason: &str) {
        self.status = status;
        reason.clone_into(&mut self.status_reason);
        self.status_before_pause = None;
        self.grace_end_time = None;
    }

    /// Returns the run with a `cycle_count` that is higher by 1.
    pub fn with_next_cycle(&self, now: Timestamp) -> Self {
        let mut next = Self { cycle_count: self.cycle_count.saturating_add(1), ..self.clone() };
        next.mark_changed(now);
        next
    }

    /// Returns the run with a `replan_count` that is higher by 1.
    pub fn with_next_replan(&self, now: Timestamp) -> Self {
        let mut next = Self { replan_count: self.replan_count.saturating_add(1), ..self.clone() };
        next.mark_changed(now);
        next
    }

    /// Returns the run with a `plan_version` that is higher by 1.
    pub fn with_next_plan(&self, now: Timestamp) -> Self {
        let mut next = Self { plan_version: self.plan_version + 1, ..self.clone() };
        next.mark_changed(now);
        next
    }

    /// Returns the paused run. If the run is already paused, the result equals `self`. Fails if the run has ended or is
    /// being cancelled.
    pub fn paused(&self, reason: &str, now: Timestamp) -> Result<Self> {
        self.check_active()?;
        let mut next = self.clone();
        if self.status != RunStatus::Paused {
            next.set_status(RunStatus::Paused, reason);
            next.status_before_pause = Some(self.status);
            next.mark_changed(now);
        }
        Ok(next)
    }

    /// Returns the run with the status from before the pause. If the run is not paused, the result equals `self`. Fails
    /// if the run has ended or is being cancelled.
    pub fn resumed(&self, reason: &str, now: Timestamp) -> Result<Self> {
        self.check_active()?;
        let mut next = self.clone();
        if self.status == RunStatus::Paused {
            // An imported run can be paused without a `status_before_pause`. The imported run then resumes as
            // RUNNING.
            next.set_status(self.status_before_pause.unwrap_or(RunStatus::Running), reason);
            next.mark_changed(now);
        }
        Ok(next)
    }

    /// Returns the run after a cancellation request. If the run is already cancelled, or is being cancelled with a
    /// grace period that ends no later than the requested grace period, the result equals `self`. Fails if the run is
    /// completed or failed.
    pub fn cancelling(&self, reason: &str, grace: Duration, now: Timestamp) -> Result<Self> {
        let mut next = self.clone();
        let end = now.plus(grace);
        match (self.status, self.grace_end_time) {
            (RunStatus::Completed | RunStatus::Failed, _) => return Err(self.status.run_ended_error(&self.id)),
            (RunStatus::Cancelled, _) => return Ok(next),
            (RunStatus::Cancelling, Some(before)) if before <= end => return Ok(next),
            (RunStatus::Cancelling, _) => {}
            _ => next.set_status(RunStatus::Cancelling, reason),
        }
        next.grace_end_time = Some(end);
        next.mark_changed(now);
        Ok(next)
    }

    /// Returns whether the grace period of the cancellation has ended. Returns false if the run is not being cancelled.
    pub fn has_grace_ended(&self, now: Timestamp) -> bool {
        self.grace_end_time.is_some_and(|end| end <= now)
    }

    /// Returns the run in the status CANCELLED. `status_reason` keeps the reason of the cancellation request.
    pub fn cancelled(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.set_status(RunStatus::Cancelled, &self.status_reason);
        next.mark_changed(now);
        next
    }

    /// Returns whether the label `path_policy` turns off the check for path conflicts.
    pub fn ignores_paths(&self) -> bool {
        self.labels.get(PATH_POLICY).is_some_and(|policy| policy == "off")
    }

    /// Increases the run's revision by 1 and sets the run's update time to `now`.
    pub fn mark_changed(&mut self, now: Timestamp) {
        self.revision += 1;
        self.update_time = now;
    }

    /// Checks the version of the run's plan. Fails if the caller expects another version. If `expected` is None,
    /// every version is accepted.
    pub fn check_plan_version(&self, expected: Option<i32>) -> Result<()> {
        match expected {
            Some(expected) if expected != self.plan_version => {
                Err(Error::PlanVersionMismatch { run_id: self.id.clone(), expected, actual: self.plan_version })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the run can be deleted. Fails if the run has another revision than the caller expects, or if the
    /// run has not ended.
    pub fn check_deletable(&self, expected_revision: Option<i64>) -> Result<()> {
        self.check_revision(expected_revision)?;
        if !self.status.is_terminal() {
            return Err(self.wrong_status_error("can't be deleted: only a run that has ended can be deleted"));
        }
        Ok(())
    }

    /// Checks that the run is active. Fails if the run has ended or is being cancelled.
    pub fn check_active(&self) -> Result<()> {
        self.status.check_active(&self.id)
    }

    fn check_revision(&self, expected: Option<i64>) -> Result<()> {
        check_revision(format_args!("run {}", self.id), expected, self.revision)
    }

    fn wrong_status_error(&self, consequence: &str) -> Error {
        let current_status = self.status.name();
        let problem = format!("run {} is {}, so the run {consequence}", self.id, short_name(current_status));
        Error::WrongStatus { current_status, problem }
    }
}

/// Checks the revision of a resource. Fails if the caller expects another revision. If `expected` is None, every
/// revision is accepted.
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

    fn run_with_status(status: RunStatus) -> Run {
        let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Labels::new() };
        Run { status, ..Run::new(1, "run".into(), draft, Timestamp::from_micros(0)) }
    }

    const LATER: Timestamp = Timestamp::from_micros(5);

    #[test]
    fn update_without_a_change_keeps_the_revision() {
        let before = run_with_status(RunStatus::Planning);
        let update = RunUpdate { status: Some(RunStatus::Planning), summary: Some(None), ..RunUpdate::default() };
        assert_eq!(before.updated(&update, LATER), Ok(before.clone()));
    }

    #[test]
    fn update_can_keep_set_or_clear_a_field() {
        let update = RunUpdate { summary: Some(Some("s".into())), ..RunUpdate::default() };
        let set = run_with_status(RunStatus::Running).updated(&update, LATER).unwrap();
        assert_eq!((set.summary.as_deref(), set.revision, set.update_time), (Some("s"), 2, LATER));
        let kept = set.updated(&RunUpdate { status: Some(RunStatus::Failed), ..RunUpdate::default() }, LATER).unwrap();
        assert_eq!(kept.summary.as_deref(), Some("s"));
        let cleared = kept.updated(&RunUpdate { summary: Some(None), ..RunUpdate::default() }, LATER).unwrap();
        assert_eq!(cleared.summary, None);
    }

    #[test]
    fn update_of_a_cancelling_run_is_refused() {
        let refused = run_with_status(RunStatus::Cancelling).updated(&RunUpdate::default(), LATER);
        assert!(matches!(refused, Err(Error::WrongStatus { .. })));
    }

    #[test]
    fn ended_or_cancelling_run_is_not_active() {
        for status in RunStatus::ALL {
            let ends = status.is_terminal() || *status == RunStatus::Cancelling;
            assert_eq!(run_with_status(*status).check_active().is_err(), ends, "{status:?}");
        }
    }
}
