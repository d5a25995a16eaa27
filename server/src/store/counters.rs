//! The one row of what the writer has counted.

use super::{Tx, first, params};
use crate::error::Result;

/// What was counted when the database was last written.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Counters {
    pub last_position: i64,
    pub last_key: i64,
    pub log_id: String,
}

/// Reads the row, after making it in a new database.
pub fn load_or_create(tx: &mut dyn Tx) -> Result<Counters> {
    let sql = "INSERT INTO counters (one, last_position, last_key, log_id) VALUES (1, 0, 0, $1)
        ON CONFLICT (one) DO NOTHING";
    let log_id = tx.new_id();
    tx.execute(sql, params![log_id])?;
    load(tx)?.ok_or_else(|| crate::error::Error::internal("counters has no row"))
}

/// Reads the row; None in a new database.
pub fn load(tx: &mut dyn Tx) -> Result<Option<Counters>> {
    first(tx, "SELECT last_position, last_key, log_id FROM counters", &[], |row| {
        Ok(Counters { last_position: row.take()?, last_key: row.take()?, log_id: row.take()? })
    })
}

/// Writes down what was counted.
pub fn save(tx: &mut dyn Tx, last_position: i64, last_key: i64) -> Result<()> {
    let sql = "UPDATE counters SET last_position = $1, last_key = $2";
    tx.execute(sql, params![last_position, last_key]).map(drop)
}

/// The newest position given so far, as far as this transaction sees.
pub fn newest_position(tx: &mut dyn Tx) -> Result<i64> {
    let position = first(tx, "SELECT last_position FROM counters", &[], |row| row.take())?;
    Ok(position.unwrap_or(0))
}
