//! Table `counters`: one row with the last numbers taken and the name of the database.

use super::session::Counted;
use super::{Tx, first, params};
use crate::error::{Error, Result};

/// The row of `counters`.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    /// The last numbers that were committed.
    pub counted: Counted,
    /// Names the database.
    pub log_id: String,
}

/// Reads the row. Inserts it first if the database is new.
pub(super) fn load_or_create(tx: &mut dyn Tx) -> Result<Counters> {
    let sql = "INSERT INTO counters (one, last_position, last_key, log_id) VALUES (1, 0, 0, $1)
        ON CONFLICT (one) DO NOTHING";
    let log_id = tx.new_id();
    tx.write(sql, params![log_id])?;
    load(tx)?.ok_or_else(|| Error::internal("counters has no row"))
}

/// Reads the row, or returns None if the database is new.
pub(super) fn load(tx: &mut dyn Tx) -> Result<Option<Counters>> {
    first(tx, "SELECT last_position, last_key, log_id FROM counters", &[], |row| {
        Ok(Counters { counted: Counted { position: row.take()?, key: row.take()? }, log_id: row.take()? })
    })
}

/// Stores the last numbers taken.
pub(super) fn save(tx: &mut dyn Tx, counted: Counted) -> Result<()> {
    let sql = "UPDATE counters SET last_position = $1, last_key = $2";
    tx.write(sql, params![counted.position, counted.key])
}

/// Returns the newest position that this transaction sees, or 0 if there is none.
pub fn newest_position(tx: &mut dyn Tx) -> Result<i64> {
    let position = first(tx, "SELECT last_position FROM counters", &[], |row| row.take())?;
    Ok(position.unwrap_or(0))
}
