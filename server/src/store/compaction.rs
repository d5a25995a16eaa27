//! This module removes the oldest events from the log. The table `counters` stores the newest removed position of the
//! whole log, and the table `run_counters` stores the newest removed position of each run.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Tx, first, params};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Returns the newest position that retention has removed from a run, or from the whole log if `run_key` is None.
/// Returns 0 if retention has removed no event.
pub fn newest_removed(tx: &mut dyn Tx, run_key: Option<Key>) -> Result<i64> {
    match run_key {
        Some(run_key) => newest_removed_of_run(tx, run_key),
        None => Ok(first(tx, "SELECT compacted_position FROM counters", &[], |row| row.take())?.unwrap_or(0)),
    }
}

/// Returns the newest position that retention has removed from a run. Returns 0 if retention has removed no event of
/// the run, or if the run was deleted.
pub fn newest_removed_of_run(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT compacted_position FROM run_counters WHERE run_key = $1";
    Ok(first(tx, sql, params![run_key], |row| row.take())?.unwrap_or(0))
}

/// Returns the position of the oldest event of a run, or of the whole log if `run_key` is None. If no event remains,
/// the function returns the position after the newest removed event.
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
        None => Ok(newest_removed(tx, run_key)? + 1),
    }
}

/// Total size in bytes of removed payloads at which a transaction stops removing events. Larger transactions would
/// delay other calls.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Holds the newest position that one transaction removes, for the whole log and for each run.
#[derive(Default)]
struct NewestRemoved {
    last: Option<i64>,
    last_of_run: BTreeMap<Key, i64>,
}

/// Removes up to 1,000 of the oldest events and returns the number of removed events. If the next event is not older
/// than `time`, or if the removed payloads exceed `MAX_BYTES` (16 MiB), the removal stops.
pub fn remove_before(tx: &mut dyn Tx, time: Timestamp) -> Result<u64> {
    let removed = find_newest_removable(tx, time)?;
    let Some(last) = removed.last else { return Ok(0) };
    for (run_key, position) in removed.last_of_run {
        let sql = "UPDATE run_counters SET compacted_position = $2 WHERE run_key = $1";
        tx.write(sql, params![run_key, position])?;
    }
    tx.write("UPDATE counters SET compacted_position = $1", params![last])?;
    tx.execute("DELETE FROM events WHERE position <= $1", params![last])
}

fn find_newest_removable(tx: &mut dyn Tx, time: Timestamp) -> Result<NewestRemoved> {
    let mut removed = NewestRemoved::default();
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
