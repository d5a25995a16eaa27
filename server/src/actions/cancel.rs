//! Cancelling a run: from the request to the event `run_cancelled` (C8).

use std::time::Duration;

use super::run::save_status;
use super::{approval, task};
use crate::domain::Key;
use crate::domain::event::SYSTEM;
use crate::domain::run::{Run, RunStatus};
use crate::domain::system_event;
use crate::domain::task::TaskStatus;
use crate::error::Result;
use crate::store::{Signal, Tx, approvals, events, runs, tasks};

/// Cancels a run: at once if no task is held, otherwise when the last holder is done or the grace is over.
pub fn cancel(tx: &mut dyn Tx, run_id: &str, reason: &str, grace: Duration) -> Result<Run> {
    let run = runs::get(tx, run_id)?;
    let next = run.cancelling(reason, grace, tx.now())?;
    if next == run {
        return Ok(next);
    }
    events::append(tx, run.key, &system_event::run_cancel_requested(&next, reason))?;
    abandon_all(tx, &next, &[TaskStatus::Pending])?;
    if next.is_grace_over(tx.now()) || !tasks::any_held(tx, run.key)? {
        // The request and the end commit together, so they count as one change of the run.
        return finish(tx, &Run { revision: run.revision, ..next });
    }
    save_status(tx, &run, &next)?;
    if let Some(end) = next.grace_end_time {
        tx.signal(Signal::Due(end));
    }
    Ok(next)
}

/// Ends the cancellation of a run in which no task is held any more.
pub fn finish_if_idle(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    if tasks::any_held(tx, run_key)? {
        return Ok(());
    }
    let run = runs::by_key(tx, run_key)?;
    if run.status == RunStatus::Cancelling {
        finish(tx, &run)?;
    }
    Ok(())
}

/// Ends the cancellation of a run whose grace is over. Returns false if the run has ended or was deleted meanwhile.
pub fn finish_if_over(tx: &mut dyn Tx, run_key: Key) -> Result<bool> {
    let Some(run) = runs::find_by_key(tx, run_key)? else { return Ok(false) };
    let is_over = run.status == RunStatus::Cancelling && run.is_grace_over(tx.now());
    if is_over {
        finish(tx, &run)?;
    }
    Ok(is_over)
}

fn finish(tx: &mut dyn Tx, run: &Run) -> Result<Run> {
    abandon_all(tx, run, &[TaskStatus::InProgress, TaskStatus::Blocked, TaskStatus::Pending])?;
    for approval in approvals::pending_of_run(tx, run.key)? {
        let Ok(cancelled) = approval.cancelled(SYSTEM, tx.now()) else {
            // The approval is due, so its policy decides it.
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

fn abandon_all(tx: &mut dyn Tx, run: &Run, statuses: &[TaskStatus]) -> Result<()> {
    let mut drafts = Vec::new();
    for status in statuses {
        for task in tasks::with_status(tx, run.key, *status)? {
            drafts.push(task::abandon(tx, &task)?);
        }
    }
    if !drafts.is_empty() {
        events::append_all(tx, run.key, &drafts)?;
    }
    Ok(())
}
