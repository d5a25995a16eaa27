//! Pausing and resuming a run (C8).

use crate::domain::run::Run;
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Signal, Tx, events, ready, runs};

/// More waiting claims than this are not woken at once when a run goes on.
const WAKE_AT_ONCE: usize = 10_000;

/// Writes a run down that has changed, and says so to those who wait for it.
pub fn save_moved(tx: &mut dyn Tx, before: &Run, after: &Run) -> Result<()> {
    runs::save(tx, after)?;
    if before.status == after.status {
        return Ok(());
    }
    if after.check_takes_work().is_err() {
        tx.signal(Signal::RunEnded(after.key));
    }
    if after.status.gives_out_tasks() && !before.status.gives_out_tasks() {
        let tasks = ready::count(tx, after.key, WAKE_AT_ONCE)?;
        tx.signal(Signal::Ready { run_key: after.key, tasks });
    }
    Ok(())
}

/// Pauses a run, if it is not paused already.
pub fn pause(tx: &mut dyn Tx, run: &Run, reason: &str) -> Result<Run> {
    let next = run.paused(reason, tx.now())?;
    if next != *run {
        save_moved(tx, run, &next)?;
        events::append(tx, run.key, &system_event::run_paused(run, reason))?;
    }
    Ok(next)
}

/// Gives a paused run the status it had before.
pub fn resume(tx: &mut dyn Tx, run: &Run, reason: &str) -> Result<Run> {
    let next = run.resumed(reason, tx.now())?;
    if next != *run {
        save_moved(tx, run, &next)?;
        events::append(tx, run.key, &system_event::run_resumed(&next, reason))?;
    }
    Ok(next)
}
