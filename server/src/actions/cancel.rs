//! This module cancels runs, from the request to the event `run_cancelled`.

use std::time::Duration;

use super::run::save_status;
use super::{approval, task};
use crate::domain::Key;
use crate::domain::event::SYSTEM;
use crate::domain::limits;
use crate::domain::run::{Run, RunStatus};
use crate::domain::system_event;
use crate::domain::task::TaskStatus;
use crate::error::Result;
use crate::store::many_tasks::Selection;
use crate::store::{Limit, Signal, Tx, approvals, events, runs, tasks};

/// Starts the cancellation of a run and returns the changed run. If the run has more than `limits::CHANGED_TASKS`
/// (1,000) open tasks or pending approvals, the function only sets the status CANCELLING, and the sweeper calls
/// `continue_cancellation`. Otherwise, if no agent holds a lease on a task of the run, or if `grace` is zero, the
/// cancellation starts and ends in one transaction. In all other cases, the cancellation ends when no agent holds a
/// lease on a task of the run, or when the grace period has passed. Fails if the run is COMPLETED or FAILED.
pub fn cancel(tx: &mut dyn Tx, run_id: &str, reason: &str, grace: Duration) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    let next = run.cancelling(reason, grace, tx.now())?;
    if next == run {
        return Ok(next);
    }
    events::append(tx, run.key, &system_event::run_cancel_requested(&next, reason))?;
    if exceeds_limit(tx, run.key)? {
        save_status(tx, &run, &next)?;
        tx.signal(Signal::Due(tx.now()));
        return Ok(next);
    }
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

fn exceeds_limit(tx: &mut dyn Tx, run_key: Key) -> Result<bool> {
    Ok(tasks::has_more_open_tasks(tx, run_key, limits::CHANGED_TASKS)?
        || approvals::has_more_pending(tx, run_key, limits::CHANGED_TASKS)?)
}

/// Ends the cancellation of a run without leased tasks. If the run is not being cancelled, the function does nothing.
/// If the run has more than `limits::CHANGED_TASKS` (1,000) open tasks or pending approvals, the sweeper ends the
/// cancellation.
pub fn finish_if_idle(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    if tasks::has_task_in_progress(tx, run_key)? {
        return Ok(());
    }
    let run = runs::get_by_key(tx, run_key)?;
    if run.status != RunStatus::Cancelling {
        return Ok(());
    }
    if exceeds_limit(tx, run_key)? {
        tx.signal(Signal::Due(tx.now()));
        return Ok(());
    }
    finish(tx, &run).map(drop)
}

/// Continues the cancellation of a run: abandons at most `limits::CHANGED_TASKS` (1,000) tasks, cancels at most this
/// number of approvals, or ends the cancellation. While agents hold leases and the grace period has not passed, the
/// function abandons only pending tasks. If the run is not being cancelled or was deleted, the function does nothing.
pub fn continue_cancellation(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    let Some(run) = runs::find_by_key(tx, run_key)? else { return Ok(()) };
    if run.status != RunStatus::Cancelling {
        return Ok(());
    }
    let is_over = run.has_grace_ended(tx.now()) || !tasks::has_task_in_progress(tx, run_key)?;
    if is_over && !exceeds_limit(tx, run_key)? {
        return finish(tx, &run).map(drop);
    }
    if is_over && approvals::has_more_pending(tx, run_key, limits::CHANGED_TASKS)? {
        return cancel_approvals(tx, run_key);
    }
    let all: &[TaskStatus] = &[TaskStatus::Pending, TaskStatus::InProgress, TaskStatus::Blocked];
    let statuses = if is_over { all } else { &[TaskStatus::Pending] };
    let limit = Limit { rows: limits::CHANGED_TASKS, bytes: limits::PAGE_BYTES };
    let page = tasks::list_with_statuses(tx, run_key, statuses, 0, limit)?;
    task::abandon_each(tx, run_key, &page.rows)
}

fn finish(tx: &mut dyn Tx, run: &Run) -> Result<Run> {
    task::abandon_leased(tx, run.key)?;
    task::abandon_unleased(tx, run.key, Selection::BlockedOfRun(run.key))?;
    task::abandon_unleased(tx, run.key, Selection::PendingOfRun(run.key))?;
    cancel_approvals(tx, run.key)?;
    let next = run.cancelled(tx.now());
    save_status(tx, run, &next)?;
    events::append(tx, run.key, &system_event::run_cancelled(&next))?;
    Ok(next)
}

/// Cancels at most `limits::CHANGED_TASKS` (1,000) pending approvals of a run.
fn cancel_approvals(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    for approval in approvals::list_pending(tx, run_key, limits::CHANGED_TASKS)? {
        let Ok(cancelled) = approval.cancelled(SYSTEM, tx.now()) else {
            // If the approval's `expire_time` has passed, the approval can't be cancelled, so the expiry policy decides
            // the approval.
            approval::expire(tx, approval.key)?;
            continue;
        };
        approvals::save(tx, &cancelled)?;
        events::append(tx, run_key, &system_event::approval_cancelled(&cancelled))?;
        tx.signal(Signal::Decided(cancelled.key));
    }
    Ok(())
}
