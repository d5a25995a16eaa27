//! Cancelling a run, and the end of that (C8).

use std::time::Duration;

use super::approval;
use super::run_control::save_moved;
use crate::domain::Key;
use crate::domain::event::SYSTEM;
use crate::domain::run::{Run, RunStatus};
use crate::domain::system_event;
use crate::domain::task::TaskStatus;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::{Signal, Tx, approvals, events, runs, tasks};

/// Cancels a run: at once if nobody holds anything, else when the last holder is done or the grace is over.
pub fn cancel(tx: &mut dyn Tx, run: &Run, reason: &str, grace: Duration) -> Result<Run> {
    let next = run.cancelling(reason, grace, tx.now())?;
    if next == *run {
        return Ok(next);
    }
    events::append(tx, run.key, &system_event::run_cancel_requested(&next, reason))?;
    give_up(tx, &next, &[TaskStatus::Pending])?;
    if is_over(&next, tx.now()) || !tasks::any_held(tx, run.key)? {
        // Beginning and end are one change to whoever looks.
        return finish(tx, &Run { revision: run.revision, ..next });
    }
    save_moved(tx, run, &next)?;
    if let Some(end) = next.grace_end_time {
        tx.signal(Signal::Due(end));
    }
    Ok(next)
}

fn is_over(run: &Run, now: Timestamp) -> bool {
    run.grace_end_time.is_some_and(|end| end <= now)
}

/// Ends the cancellation of a run in which nobody holds anything any more.
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

/// Ends the cancellation of a run whose grace is over, unless it has ended meanwhile; says whether it did.
pub fn finish_if_over(tx: &mut dyn Tx, run_key: Key) -> Result<bool> {
    let Some(run) = runs::find_by_key(tx, run_key)? else { return Ok(false) };
    let over = run.status == RunStatus::Cancelling && is_over(&run, tx.now());
    if over {
        finish(tx, &run)?;
    }
    Ok(over)
}

fn finish(tx: &mut dyn Tx, run: &Run) -> Result<Run> {
    give_up(tx, run, &[TaskStatus::InProgress, TaskStatus::Blocked, TaskStatus::Pending])?;
    for approval in approvals::pending_of_run(tx, run.key)? {
        let Ok(cancelled) = approval.cancelled(SYSTEM, tx.now()) else {
            // Its time has come: that has decided it.
            approval::expire(tx, approval.key)?;
            continue;
        };
        approvals::save(tx, &cancelled)?;
        events::append(tx, run.key, &system_event::approval_cancelled(&cancelled))?;
        tx.signal(Signal::Decided(cancelled.key));
    }
    let next = run.cancelled(tx.now());
    save_moved(tx, run, &next)?;
    events::append(tx, run.key, &system_event::run_cancelled(&next))?;
    Ok(next)
}

fn give_up(tx: &mut dyn Tx, run: &Run, statuses: &[TaskStatus]) -> Result<()> {
    let mut log = Vec::new();
    for status in statuses {
        for task in tasks::with_status(tx, run.key, *status)? {
            log.push(super::give_up(tx, &task)?);
        }
    }
    if !log.is_empty() {
        events::append_all(tx, run.key, &log)?;
    }
    Ok(())
}
