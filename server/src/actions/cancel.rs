//! This module cancels runs, from the request to the event `run_cancelled`.

use std::time::Duration;

use super::run::save_status;
use super::{approval, task};
use crate::domain::Key;
use crate::domain::event::SYSTEM;
use crate::domain::run::{Run, RunStatus};
use crate::domain::system_event;
use crate::error::Result;
use crate::store::many_tasks::Selection;
use crate::store::{Signal, Tx, approvals, events, runs, tasks};

/// Starts the cancellation of a run and returns the changed run. If no agent holds a lease on a task of the run, or if
/// `grace` is zero, the cancellation starts and ends in one transaction. Otherwise the cancellation ends when no agent
/// holds a lease on a task of the run, or when the grace period has passed. Fails if the run is COMPLETED or FAILED.
pub fn cancel(tx: &mut dyn Tx, run_id: &str, reason: &str, grace: Duration) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    let next = run.cancelling(reason, grace, tx.now())?;
    if next == run {
        return Ok(next);
    }
    events::append(tx, run.key, &system_event::run_cancel_requested(&next, reason))?;
    task::abandon_unleased(tx, run.key, Selection::PendingOfRun(run.key))?;
    if next.has_grace_ended(tx.now()) || !tasks::has_task_in_progress(tx, run.key)? {
        // The start and the end of the cancellation commit in one transaction, so the run's revision must increase by
        // one, not by two.
        return finish(tx, &Run { revision: run.revision, ..next });
    }
    save_status(tx, &run, &next)?;
    if let Some(end) = next.grace_end_time {
        tx.signal(Signal::Due(end));
    }
    Ok(next)
}

/// Ends the cancellation of a run without leased tasks. If the run is not being cancelled, the function does nothing.
pub fn finish_if_idle(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    if tasks::has_task_in_progress(tx, run_key)? {
        return Ok(());
    }
    let run = runs::get_by_key(tx, run_key)?;
    if run.status == RunStatus::Cancelling {
        finish(tx, &run)?;
    }
    Ok(())
}

/// Ends the cancellation of a run whose grace period has passed. Returns true if the cancellation ended, and false if
/// the grace period has not passed, or if the run is not being cancelled or was deleted.
pub fn finish_if_grace_has_passed(tx: &mut dyn Tx, run_key: Key) -> Result<bool> {
    let Some(run) = runs::find_by_key(tx, run_key)? else { return Ok(false) };
    let is_over = run.status == RunStatus::Cancelling && run.has_grace_ended(tx.now());
    if is_over {
        finish(tx, &run)?;
    }
    Ok(is_over)
}

fn finish(tx: &mut dyn Tx, run: &Run) -> Result<Run> {
    task::abandon_leased(tx, run.key)?;
    task::abandon_unleased(tx, run.key, Selection::BlockedOfRun(run.key))?;
    task::abandon_unleased(tx, run.key, Selection::PendingOfRun(run.key))?;
    for approval in approvals::list_pending(tx, run.key)? {
        let Ok(cancelled) = approval.cancelled(SYSTEM, tx.now()) else {
            // If the approval's `expire_time` has passed, the approval can't be cancelled, so the expiry policy decides
            // the approval.
            approval::expire(tx, approval.key)?;
            continue;
        };
        approvals::save(tx, &cancelled)?;
        events::append(tx, run.key, &system_event::approval_cancelled(&cancelled))?;
        tx.signal(Signal::Decided(cancelled.key));
    }
    let next = run.cancelled(tx.now());
    save_status(tx, run, &next)?;
    events::append(tx, run.key, &system_event::run_cancelled(&next))?;
    Ok(next)
}
