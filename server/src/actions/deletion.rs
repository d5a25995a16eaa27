//! This module deletes runs, from the request to the event `run_deleted`.

use crate::domain::Key;
use crate::domain::limits;
use crate::domain::run::Run;
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Signal, Tx, approvals, deletion, events, runs, tasks};

/// Deletes a run and all its data except the event `run_deleted`. If the run has more than `limits::CHANGED_TASKS`
/// (1,000) tasks or more than `limits::CHANGED_ROWS` (10,000) rows in all, the function only makes the run invisible,
/// and the sweeper calls `continue_deletion`. Fails if the run has not ended, or if its revision differs from
/// `expected_revision`.
pub fn delete(tx: &mut dyn Tx, run_id: &str, expected_revision: Option<i64>) -> Result<()> {
    let run = runs::get(tx, run_id)?;
    run.check_deletable(expected_revision)?;
    signal_deletion(tx, &run)?;
    deletion::hide(tx, run.key)?;
    if deletion::is_larger(tx, run.key, limits::CHANGED_TASKS, limits::CHANGED_ROWS)? {
        let requested = events::append(tx, run.key, &system_event::run_delete_requested(&run))?;
        deletion::show_event(tx, &run, requested.last_position)?;
        tx.signal(Signal::Due(tx.now()));
        return Ok(());
    }
    deletion::delete_some(tx, run.key, usize::MAX)?;
    finish(tx, &run)
}

/// Continues the deletion of a run: deletes at most `limits::CHANGED_TASKS` (1,000) rows, or ends the deletion. If the
/// run was deleted, the function does nothing.
pub fn continue_deletion(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    let Some(run) = runs::find_hidden(tx, run_key)? else { return Ok(()) };
    if deletion::delete_some(tx, run_key, limits::CHANGED_TASKS)? { finish(tx, &run) } else { Ok(()) }
}

fn finish(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let last = events::append(tx, run.key, &system_event::run_deleted(run))?;
    deletion::finish(tx, run, last.last_position)
}

fn signal_deletion(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    // Wake the calls that wait for a pending approval of the run. Otherwise each call would wait for a deleted approval
    // until the call's `wait` time has passed.
    for key in approvals::list_pending_keys(tx, run.key)? {
        tx.signal(Signal::Decided(key));
    }
    // A COMPLETED or FAILED run may still have tasks in progress. Wake the claims that wait for the paths of these
    // tasks, because the deletion ends the path conflicts.
    if tasks::has_task_in_progress(tx, run.key)? {
        tx.signal(Signal::PathsFreed { repo_path: run.repo_path.clone() });
    }
    Ok(())
}
