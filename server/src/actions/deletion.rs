//! This module deletes runs, from the request to the event `run_deleted`.

use std::time::Duration;

use crate::domain::Key;
use crate::domain::limits;
use crate::domain::run::Run;
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Signal, Tx, approvals, deletion, events, runs, tasks};

/// Time for which one transaction deletes rows of a large run, so that other calls can use the writer.
const SLICE: Duration = Duration::from_millis(10);
/// Maximum time for which a transaction deletes the rows of a small run. Only a run with very large rows needs more
/// time, and is deleted like a large run.
const LONGEST_SLICE: Duration = Duration::from_millis(200);

/// Deletes a run and all its data except the event `run_deleted`. If the run has more than `limits::CHANGED_TASKS`
/// (1,000) tasks or more than `limits::CHANGED_ROWS` (10,000) rows in all, or if the deletion takes longer than
/// `LONGEST_SLICE` (200 ms), the function makes the run invisible, and the sweeper calls `continue_deletion`. Fails if
/// the run has not ended, or if its revision differs from `expected_revision`.
pub fn delete(tx: &mut dyn Tx, run_id: &str, expected_revision: Option<i64>) -> Result<()> {
    let run = runs::get(tx, run_id)?;
    run.check_deletable(expected_revision)?;
    signal_deletion(tx, &run)?;
    deletion::hide(tx, run.key)?;
    let is_small = !deletion::exceeds(tx, run.key, limits::CHANGED_TASKS, limits::CHANGED_ROWS)?;
    if !is_small || !deletion::delete_some(tx, run.key, LONGEST_SLICE)? {
        let requested = events::append(tx, run.key, &system_event::run_delete_requested(&run))?;
        deletion::show_event(tx, &run, requested.last_position)?;
        tx.signal(Signal::Due(tx.now()));
        return Ok(());
    }
    finish(tx, &run)
}

/// Continues the deletion of a run: deletes rows for `SLICE` (10 ms), or ends the deletion. If the run was deleted, the
/// function does nothing.
pub fn continue_deletion(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    let Some(run) = runs::find_hidden(tx, run_key)? else { return Ok(()) };
    if deletion::delete_some(tx, run_key, SLICE)? { finish(tx, &run) } else { Ok(()) }
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
