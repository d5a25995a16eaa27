//! This module reads and writes the table `counters`. The only row of the table stores the last assigned position, key
//! and claim version, the newest removed position, the time of the newest commit, and the log_id of the database.

use super::session::LastAssigned;
use super::{Tx, first, params};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// Holds the last assigned numbers and the log_id from the only row of the table `counters`.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    /// Last numbers that a committed transaction has assigned.
    pub last_assigned: LastAssigned,
    /// Time of the newest commit, or the Unix epoch if no version of the server has stored the time.
    pub last_commit_time: Timestamp,
    /// Identifier of the database. A cursor is valid only for one log_id.
    pub log_id: String,
}

/// Returns the row of the table `counters`. If the database is new, the function inserts the row first.
pub(super) fn load_or_create(tx: &mut dyn Tx) -> Result<Counters> {
    let sql = "INSERT INTO counters (one, last_position, last_key, log_id) VALUES (1, 0, 0, $1)
        ON CONFLICT (one) DO NOTHING";
    let log_id = tx.new_id();
    tx.write(sql, params![log_id])?;
    let mut counters = load(tx)?
        .ok_or_else(|| Error::internal("table `counters` has no row after the insertion of the row: report the bug"))?;
    // An event can be newer than the counters if another program has written to the database.
    let newest = first(tx, "SELECT MAX(position) FROM events", &[], |row| row.take::<Option<i64>>())?.flatten();
    if let Some(newest) = newest.filter(|newest| *newest > counters.last_assigned.position) {
        // Other servers can have appended events since the two reads. Without the condition, the update would lower the
        // position, and the next event would get a position that an event already has.
        tx.write("UPDATE counters SET last_position = $1 WHERE last_position < $1", params![newest])?;
        counters.last_assigned.position = newest;
    }
    Ok(counters)
}

/// Returns the row of the table `counters`, or None if the database is new.
pub(super) fn load(tx: &mut dyn Tx) -> Result<Option<Counters>> {
    let sql = "SELECT last_position, last_key, claim_version, last_commit_time, log_id FROM counters";
    first(tx, sql, &[], |row| {
        let last_assigned = LastAssigned { position: row.take()?, key: row.take()?, claim_version: row.take()? };
        Ok(Counters { last_assigned, last_commit_time: row.take()?, log_id: row.take()? })
    })
}

/// Expands to the statement that stores the last assigned numbers `$1` to `$3` and the time `$4` of the commit.
macro_rules! save_counters {
    () => {
        "UPDATE counters SET last_position = $1, last_key = $2, claim_version = $3, last_commit_time = $4"
    };
}
pub(super) use save_counters;

/// Stores the last assigned numbers and the time of the commit.
pub(super) fn save(tx: &mut dyn Tx, last_assigned: LastAssigned) -> Result<()> {
    let LastAssigned { position, key, claim_version } = last_assigned;
    tx.write(save_counters!(), params![position, key, claim_version, tx.now()])
}

/// Returns the claim version of the newest committed change that can affect which tasks are claimable.
pub(super) fn claim_version(tx: &mut dyn Tx) -> Result<i64> {
    let version = first(tx, "SELECT claim_version FROM counters", &[], |row| row.take())?;
    Ok(version.unwrap_or(0))
}

/// Returns the position of the newest event that was ever appended, or 0 if no event was ever appended.
pub fn newest_position(tx: &mut dyn Tx) -> Result<i64> {
    let position = first(tx, "SELECT last_position FROM counters", &[], |row| row.take())?;
    Ok(position.unwrap_or(0))
}

/// Distance from the last position of a database to the positions that follow once the database gets a new log_id. The
/// database is then a copy, and the original may have assigned the positions after the last position of the copy. No
/// original assigns 2^32 positions in the lifetime of a copy, so the copy assigns no position again.
pub(super) const POSITION_JUMP: i64 = 1 << 32;

/// Identifies the log of a database, and states how far the log has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// Identifier of the log. A cursor is valid only for one log_id.
    pub log_id: String,
    /// Last position that the database has assigned. The next event gets the next position.
    pub last_position: i64,
}

/// Returns the log_id and the last position of a database of any schema version, or None if the database is new.
pub(super) fn find_log_end(tx: &mut dyn Tx) -> Result<Option<LogEnd>> {
    first(tx, "SELECT log_id, last_position FROM counters", &[], |row| {
        Ok(LogEnd { log_id: row.take()?, last_position: row.take()? })
    })
}

/// Gives a database of any schema version a new log_id, and lets its positions continue `POSITION_JUMP` (2^32) higher.
/// Returns the new log_id and the position after which the positions continue. Fails if the positions would exceed the
/// largest 64-bit integer.
pub(super) fn start_new_log(tx: &mut dyn Tx, old: &LogEnd) -> Result<LogEnd> {
    let newest_event = "SELECT position FROM events ORDER BY position DESC LIMIT 1";
    let newest_event = first(tx, newest_event, &[], |row| row.take())?.unwrap_or(0);
    let last_position = old.last_position.max(newest_event).checked_add(POSITION_JUMP);
    let last_position = last_position.ok_or_else(|| Error::internal("the database has used all positions"))?;
    let log_id = tx.new_id();
    tx.write("UPDATE counters SET log_id = $1, last_position = $2", params![log_id, last_position])?;
    Ok(LogEnd { log_id, last_position })
}
