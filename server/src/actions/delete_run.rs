//! Deleting a run.

use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Signal, Tx, approvals, deletion, events, runs, tasks};

/// Deletes a run that has ended, and all of it but for its last event.
pub fn delete(tx: &mut dyn Tx, id: &str, expected_revision: Option<i64>) -> Result<()> {
    let run = runs::get(tx, id)?;
    run.check_deletable(expected_revision)?;
    // Nobody will decide these any more: who waits is to hear that they are gone.
    for approval in approvals::pending_of_run(tx, run.key)? {
        tx.signal(Signal::Decided(approval.key));
    }
    // A run may be COMPLETED while somebody still works.
    if tasks::any_held(tx, run.key)? {
        tx.signal(Signal::PathsFreed { repo_path: run.repo_path.clone() });
    }
    let last = events::append(tx, run.key, &system_event::run_deleted(&run))?;
    deletion::delete(tx, &run, last.last_position)
}
