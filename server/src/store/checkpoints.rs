//! This module reads and writes the table `checkpoints`.

use super::table::{select, table};
use super::{Limit, Page, Tx, first, page, params};
use crate::domain::Key;
use crate::domain::checkpoint::Checkpoint;
use crate::error::{Error, Resource, Result};

table! {
    checkpoints c, checkpoint: Checkpoint;
    fixed { key, id, status, payload, position, create_time }
    given { run_key: Key }
    joined "JOIN live_runs r ON r.key = c.run_key" { run_id: "r.id" }
}

/// Inserts a new checkpoint.
pub fn insert(tx: &mut dyn Tx, run_key: Key, checkpoint: &Checkpoint) -> Result<()> {
    insert_row(tx, run_key, checkpoint)
}

/// Returns the checkpoint with the id `id`. Fails with NotFound if no checkpoint has this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Checkpoint> {
    find(tx, id)?.ok_or_else(|| Error::not_found(Resource::Checkpoint, id))
}

/// Returns the checkpoint with the id `id`, or None if no checkpoint has this id.
pub fn find(tx: &mut dyn Tx, id: &str) -> Result<Option<Checkpoint>> {
    first(tx, select!("WHERE c.id = $1"), params![id], read_row)
}

/// Returns the newest checkpoint of a run, or None if the run has no checkpoints.
pub fn find_latest(tx: &mut dyn Tx, run_key: Key) -> Result<Option<Checkpoint>> {
    first(tx, select!("WHERE c.run_key = $1 ORDER BY c.key DESC LIMIT 1"), params![run_key], read_row)
}

/// Returns a page of the checkpoints of a run that have a key greater than `after`, oldest first.
pub fn list(tx: &mut dyn Tx, run_key: Key, after: Key, limit: Limit) -> Result<Page<Checkpoint>> {
    let sql = select!("WHERE c.run_key = $1 AND c.key > $2 ORDER BY c.key LIMIT $3 OFFSET $4");
    page(tx, sql, params![run_key, after], limit, read_row)
}
