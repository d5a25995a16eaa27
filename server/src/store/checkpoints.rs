//! Table `checkpoints`.

use super::{Columns, Limit, Page, Tx, first, page, params, rows_of};
use crate::domain::Key;
use crate::domain::checkpoint::Checkpoint;
use crate::error::{Error, Resource, Result};

rows_of!($ "SELECT c.key, c.id, r.id, c.status, c.payload, c.position, c.create_time
    FROM checkpoints c JOIN runs r ON r.key = c.run_key ");

fn checkpoint(row: &mut Columns) -> Result<Checkpoint> {
    Ok(Checkpoint {
        key: row.take()?,
        id: row.take()?,
        run_id: row.take()?,
        status: row.take()?,
        payload: row.take()?,
        position: row.take()?,
        create_time: row.take()?,
    })
}

/// Adds a checkpoint.
pub fn insert(tx: &mut dyn Tx, run_key: Key, checkpoint: &Checkpoint) -> Result<()> {
    let sql = "INSERT INTO checkpoints (key, id, run_key, status, payload, position, create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let Checkpoint { key, id, status, payload, position, create_time, .. } = checkpoint;
    tx.execute(sql, params![key, id, run_key, status, payload, position, create_time]).map(drop)
}

/// The checkpoint with this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Checkpoint> {
    let found = first(tx, select!("WHERE c.id = $1"), params![id], checkpoint)?;
    found.ok_or_else(|| Error::not_found(Resource::Checkpoint, id))
}

/// The newest checkpoint of a run, if it has one.
pub fn latest(tx: &mut dyn Tx, run_key: Key) -> Result<Option<Checkpoint>> {
    first(tx, select!("WHERE c.run_key = $1 ORDER BY c.key DESC LIMIT 1"), params![run_key], checkpoint)
}

/// Checkpoints of a run after a key, the oldest first.
pub fn list(tx: &mut dyn Tx, run_key: Key, after: Key, limit: Limit) -> Result<Page<Checkpoint>> {
    let sql = select!("WHERE c.run_key = $1 AND c.key > $2 ORDER BY c.key");
    page(tx, sql, params![run_key, after], limit, checkpoint)
}
