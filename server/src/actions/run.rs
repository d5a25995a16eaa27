//! Runs: creating, updating, pausing, resuming and deleting them (C8).

use crate::domain::run::{Run, RunDraft, RunUpdate};
use crate::domain::system_event;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::{Signal, Tx, approvals, deletion, events, ready, runs, tasks};

/// Maximum number of ready tasks that are counted, and so of waiting claims that are woken, when a run resumes.
const MAX_WAKEUPS: usize = 10_000;

/// Creates a run.
pub fn create(tx: &mut dyn Tx, draft: &RunDraft) -> Result<Run> {
    let run = Run::new(tx.next_key()?, tx.new_id(), draft.clone(), tx.now());
    runs::insert(tx, &run)?;
    events::append(tx, run.key, &system_event::run_created(&run))?;
    Ok(run)
}

/// Updates a run. Fails if `current_task_id` names a task of another run.
pub fn update(tx: &mut dyn Tx, run_id: &str, update: &RunUpdate) -> Result<Run> {
    let next = change(tx, run_id, |run, now| run.updated(update, now))?;
    if let Some(Some(task_id)) = &update.current_task_id {
        tasks::key_in_run(tx, next.key, task_id)?;
    }
    Ok(next)
}

/// Adds one to a run's `cycle_count`.
pub fn increment_cycle(tx: &mut dyn Tx, run_id: &str) -> Result<Run> {
    change(tx, run_id, |run, now| Ok(run.with_next_cycle(now)))
}

/// Adds one to a run's `replan_count`.
pub fn increment_replan(tx: &mut dyn Tx, run_id: &str) -> Result<Run> {
    change(tx, run_id, |run, now| Ok(run.with_next_replan(now)))
}

fn change(tx: &mut dyn Tx, run_id: &str, decide: impl Fn(&Run, Timestamp) -> Result<Run>) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    let next = decide(&run, tx.now())?;
    if next != run {
        save_status(tx, &run, &next)?;
        events::append(tx, run.key, &system_event::run_updated(&run, &next))?;
    }
    Ok(next)
}

/// Pauses a run. Changes nothing if the run is paused already.
pub fn pause(tx: &mut dyn Tx, run_id: &str, reason: &str) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    pause_loaded(tx, &run, reason)
}

/// Pauses a run that is loaded already.
pub(super) fn pause_loaded(tx: &mut dyn Tx, run: &Run, reason: &str) -> Result<Run> {
    let next = run.paused(reason, tx.now())?;
    if next != *run {
        save_status(tx, run, &next)?;
        events::append(tx, run.key, &system_event::run_paused(run, reason))?;
    }
    Ok(next)
}

/// Gives a paused run the status it had before. Changes nothing if the run is not paused.
pub fn resume(tx: &mut dyn Tx, run_id: &str, reason: &str) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    let next = run.resumed(reason, tx.now())?;
    if next != run {
        save_status(tx, &run, &next)?;
        events::append(tx, run.key, &system_event::run_resumed(&next, reason))?;
    }
    Ok(next)
}

/// Saves a run that has changed, and signals a new status to the calls that wait for it.
pub(super) fn save_status(tx: &mut dyn Tx, before: &Run, after: &Run) -> Result<()> {
    runs::save(tx, after)?;
    if before.status == after.status {
        return Ok(());
    }
    if !after.status.takes_work() {
        tx.signal(Signal::RunEnded(after.key));
    }
    if after.status.allows_claims() && !before.status.allows_claims() {
        let tasks = ready::count(tx, after.key, MAX_WAKEUPS)?;
        tx.signal(Signal::Ready { run_key: after.key, tasks });
    }
    Ok(())
}

/// Deletes a run that has ended, with everything that belongs to it except the event `run_deleted`.
pub fn delete(tx: &mut dyn Tx, run_id: &str, expected_revision: Option<i64>) -> Result<()> {
    let run = runs::get(tx, run_id)?;
    run.check_deletable(expected_revision)?;
    // Calls that wait for these approvals must learn that they are gone.
    for approval in approvals::pending_of_run(tx, run.key)? {
        tx.signal(Signal::Decided(approval.key));
    }
    // A COMPLETED or FAILED run may still have tasks in progress.
    if tasks::any_held(tx, run.key)? {
        tx.signal(Signal::PathsFreed { repo_path: run.repo_path.clone() });
    }
    let last = events::append(tx, run.key, &system_event::run_deleted(&run))?;
    deletion::delete(tx, &run, last.last_position)
}
