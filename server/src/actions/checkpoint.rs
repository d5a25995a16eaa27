//! Checkpoints of a run.

use crate::domain::checkpoint::Checkpoint;
use crate::domain::json::Json;
use crate::domain::run::RunStatus;
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Limit, Page, Tx, checkpoints, events, runs};

/// Creates a checkpoint at the run's newest event.
pub fn create(tx: &mut dyn Tx, run_id: &str, status: RunStatus, payload: &Json) -> Result<Checkpoint> {
    let run_key = runs::key(tx, run_id)?;
    let checkpoint = Checkpoint {
        key: tx.next_key()?,
        id: tx.new_id(),
        run_id: run_id.to_owned(),
        status,
        payload: payload.clone(),
        position: events::newest_of_run(tx, run_key)?,
        create_time: tx.now(),
    };
    checkpoints::insert(tx, run_key, &checkpoint)?;
    events::append(tx, run_key, &system_event::checkpoint_created(&checkpoint))?;
    Ok(checkpoint)
}

/// Returns the newest checkpoint of a run, if it has one.
pub fn latest(tx: &mut dyn Tx, run_id: &str) -> Result<Option<Checkpoint>> {
    let run_key = runs::key(tx, run_id)?;
    checkpoints::latest(tx, run_key)
}

/// Lists checkpoints of a run after a key, the oldest first.
pub fn list(tx: &mut dyn Tx, run_id: &str, after: i64, limit: Limit) -> Result<Page<Checkpoint>> {
    let run_key = runs::key(tx, run_id)?;
    checkpoints::list(tx, run_key, after, limit)
}
