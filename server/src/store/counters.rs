//! This module reads and writes the table `counters`. The only row of the table stores the last assigned position and
//! key, the newest removed position, and the log_id of the database.

use super::session::LastAssigned;
use super::{Tx, first, params};
use crate::error::{Error, Result};

/// Holds the last assigned position and key and the log_id from the only row of the table `counters`.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    /// Last position and key that a committed transaction has assigned.
    pub last_assigned: LastAssigned,
    /// Identifier of the database. A cursor is valid only for one log_id.
    pub log_id: String,
}

/// Returns the row of the table `counters`. If the database is new, the function inserts the row first.
pub(super) fn load_or_create(tx: &mut dyn Tx) -> Result<Counters> {
    let sql = "INSERT INTO counters (one, last_position, last_key, log_id) VALUES (1, 0, 0, $1)
        ON CONFLICT (one) DO NOTHING";
    let log_id = tx.new_id();
    tx.write(sql, params![log_id])?;
    load(tx)?
        .ok_or_else(|| Error::internal("table `counters` has no row after the insertion of the row: report the bug"))
}

/// Returns the row of the table `counters`, or None if the database is new.
pub(super) fn load(tx: &mut dyn Tx) -> Result<Option<Counters>> {
    first(tx, "SELECT last_position, last_key, log_id FROM counters", &[], |row| {
        Ok(Counters { last_assigned: LastAssigned { position: row.take()?, key: row.take()? }, log_id: row.take()? })
    })
}

/// Stores the last assigned position and key.
pub(super) fn save(tx: &mut dyn Tx, last_assigned: LastAssigned) -> Result<()> {
    let sql = "UPDATE counters SET last_position = $1, last_key = $2";
    tx.write(sql, params![last_assigned.position, last_assigned.key])
}

/// Returns the position of the newest event that was ever appended, or 0 if no event was ever appended.
pub fn newest_position(tx: &mut dyn Tx) -> Result<i64> {
    let position = first(tx, "SELECT last_position FROM counters", &[], |row| row.take())?;
    Ok(position.unwrap_or(0))
}
