//! This module creates, updates, pauses, resumes and deletes runs.

use crate::domain::run::{Run, RunDraft, RunUpdate};
use crate::domain::system_event;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::{Signal, Tx, events, ready, runs, tasks};

/// Maximum number of waiting claims that are woken when a run resumes. One claim is woken for each ready task.
const MAX_WAKEUPS: usize = 10_000;

/// Creates a run and returns the new run.
pub fn create(tx: &mut dyn Tx, draft: &RunDraft) -> Result<Run> {
    let run = Run::new(tx.next_key()?, tx.new_id(), draft.clone(), tx.now());
    runs::insert(tx, &run)?;
    events::append(tx, run.key, &system_event::run_created(&run))?;
    Ok(run)
}

/// Updates a run and returns the updated run. Fails if `current_task_id` names a task of another run.
pub fn update(tx: &mut dyn Tx, run_id: &str, update: &RunUpdate) -> Result<Run> {
    let next = apply_change(tx, run_id, |run, now| run.updated(update, now))?;
    if let Some(Some(task_id)) = &update.current_task_id {
        tasks::get_key_in_run(tx, next.key, task_id)?;
    }
    Ok(next)
}

/// Increases a run's `cycle_count` by one and returns the updated run. Fails if the run does not exist.
pub fn increment_cycle(tx: &mut dyn Tx, run_id: &str) -> Result<Run> {
    apply_change(tx, run_id, |run, now| Ok(run.with_next_cycle(now)))
}

/// Increases a run's `replan_count` by one and returns the updated run. Fails if the run does not exist.
pub fn increment_replan(tx: &mut dyn Tx, run_id: &str) -> Result<Run> {
    apply_change(tx, run_id, |run, now| Ok(run.with_next_replan(now)))
}

fn apply_change(tx: &mut dyn Tx, run_id: &str, decide: impl Fn(&Run, Timestamp) -> Result<Run>) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    let next = decide(&run, tx.now())?;
    if next != run {
        save_status(tx, &run, &next)?;
        events::append(tx, run.key, &system_event::run_updated(&run, &next))?;
    }
    Ok(next)
}

/// Pauses a run and returns the paused run. If the run is already paused, the function changes nothing. Fails if the
/// run has ended or is being cancelled.
pub fn pause(tx: &mut dyn Tx, run_id: &str, reason: &str) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    pause_loaded(tx, &run, reason)
}

/// Pauses a run that the caller has already loaded, and returns the paused run. Fails if the run has ended or is being
/// cancelled.
pub(super) fn pause_loaded(tx: &mut dyn Tx, run: &Run, reason: &str) -> Result<Run> {
    let next = run.paused(reason, tx.now())?;
    if next != *run {
        save_status(tx, run, &next)?;
        events::append(tx, run.key, &system_event::run_paused(run, reason))?;
    }
    Ok(next)
}

/// Restores the status that a paused run had before the pause, and returns the resumed run. If the run is not paused,
/// the function changes nothing. Fails if the run has ended or is being cancelled.
pub fn resume(tx: &mut dyn Tx, run_id: &str, reason: &str) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    let next = run.resumed(reason, tx.now())?;
    if next != run {
        save_status(tx, &run, &next)?;
        events::append(tx, run.key, &system_event::run_resumed(&next, reason))?;
    }
    Ok(next)
}

/// Saves a changed run. If the status has changed, the function sends the signals that wake the claims waiting for
/// tasks of the run.
pub(super) fn save_status(tx: &mut dyn Tx, before: &Run, after: &Run) -> Result<()> {
    runs::save(tx, after)?;
    if before.status == after.status {
        return Ok(());
    }
    runs::record_status_change(tx, after.key)?;
    if !after.status.is_active() {
        tx.signal(Signal::RunEnded(after.key));
    }
    if after.status.allows_claims() && !before.status.allows_claims() {
        let tasks = ready::count_of_run(tx, after.key, MAX_WAKEUPS)?;
        tx.signal(Signal::Ready { run_key: after.key, tasks });
    }
    Ok(())
}
