//! Retention of the log: removes the oldest events and keeps the newest removed position, for all runs in `counters` and
//! for each run in `run_counters`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Tx, first, params};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Returns the newest position that retention has removed from a run, or from all runs; 0 if it has removed none.
pub fn of_scope(tx: &mut dyn Tx, run_key: Option<Key>) -> Result<i64> {
    match run_key {
        Some(run_key) => of_run(tx, run_key),
        None => Ok(first(tx, "SELECT compacted_position FROM counters", &[], |row| row.take())?.unwrap_or(0)),
    }
}

/// Returns the newest position that retention has removed from a run; 0 if it has removed none, or if the run was deleted.
pub fn of_run(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT compacted_position FROM run_counters WHERE run_key = $1";
    Ok(first(tx, sql, params![run_key], |row| row.take())?.unwrap_or(0))
}

/// Returns the position of the oldest event of a run, or of all runs. If the log has none, returns the position after the
/// newest removed one.
pub fn oldest_position(tx: &mut dyn Tx, run_key: Option<Key>) -> Result<i64> {
    let kept = match run_key {
        Some(run_key) => {
            let sql = "SELECT position FROM events WHERE run_key = $1 ORDER BY position LIMIT 1";
            first(tx, sql, params![run_key], |row| row.take())?
        }
        None => first(tx, "SELECT position FROM events ORDER BY position LIMIT 1", &[], |row| row.take())?,
    };
    match kept {
        Some(position) => Ok(position),
        None => Ok(of_scope(tx, run_key)? + 1),
    }
}

/// Maximum size in bytes of the payloads that one transaction removes, so that it does not hold up other calls.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The oldest events that one transaction removes.
#[derive(Default)]
struct Removed {
    last: Option<i64>,
    last_of_run: BTreeMap<Key, i64>,
}

/// Removes the oldest events, at most a thousand, up to the first event that is not older than `time`. Returns the number
/// of removed events.
pub fn remove_before(tx: &mut dyn Tx, time: Timestamp) -> Result<u64> {
    let removed = oldest_before(tx, time)?;
    let Some(last) = removed.last else { return Ok(0) };
    for (run_key, position) in removed.last_of_run {
        let sql = "UPDATE run_counters SET compacted_position = $2 WHERE run_key = $1";
        tx.write(sql, params![run_key, position])?;
    }
    tx.write("UPDATE counters SET compacted_position = $1", params![last])?;
    tx.execute("DELETE FROM events WHERE position <= $1", params![last])
}

fn oldest_before(tx: &mut dyn Tx, time: Timestamp) -> Result<Removed> {
    let mut removed = Removed::default();
    let mut bytes = 0;
    let sql = "SELECT position, run_key, octet_length(payload), create_time FROM events ORDER BY position LIMIT 1000";
    tx.query(sql, &[], &mut |row| {
        let position = row.take()?;
        let run_key = row.take()?;
        let payload_bytes: i64 = row.take()?;
        let create_time: Timestamp = row.take()?;
        if create_time >= time || bytes > MAX_BYTES {
            return Ok(ControlFlow::Break(()));
        }
        bytes += usize::try_from(payload_bytes).unwrap_or(0);
        removed.last_of_run.insert(run_key, position);
        removed.last = Some(position);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(removed)
}
