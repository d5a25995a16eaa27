//! This module creates and reads the checkpoints of a run.

use crate::domain::checkpoint::Checkpoint;
use crate::domain::json::Json;
use crate::domain::run::RunStatus;
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Limit, Page, Tx, checkpoints, events, runs};

/// Creates a checkpoint at the position of the run's newest event, and returns the checkpoint. Fails if the run does
/// not exist.
pub fn create(tx: &mut dyn Tx, run_id: &str, status: RunStatus, payload: &Json) -> Result<Checkpoint> {
    let run_key = runs::get_key(tx, run_id)?;
    let checkpoint = Checkpoint {
        key: tx.next_key()?,
        id: tx.new_id(),
        run_id: run_id.to_owned(),
        status,
        payload: payload.clone(),
        position: events::newest_position_of_run(tx, run_key)?,
        create_time: tx.now(),
    };
    checkpoints::insert(tx, run_key, &checkpoint)?;
    events::append(tx, run_key, &system_event::checkpoint_created(&checkpoint))?;
    Ok(checkpoint)
}

/// Returns the newest checkpoint of a run, or None if the run has no checkpoint. Fails if the run does not exist.
pub fn find_latest(tx: &mut dyn Tx, run_id: &str) -> Result<Option<Checkpoint>> {
    let run_key = runs::get_key(tx, run_id)?;
    checkpoints::find_latest(tx, run_key)
}

/// Returns a page of a run's checkpoints, ordered from oldest to newest. The page starts after the checkpoint with the
/// key `after`. Fails if the run does not exist.
pub fn list(tx: &mut dyn Tx, run_id: &str, after: i64, limit: Limit) -> Result<Page<Checkpoint>> {
    let run_key = runs::get_key(tx, run_id)?;
    checkpoints::list(tx, run_key, after, limit)
}
