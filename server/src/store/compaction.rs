//! What was removed from the log because of its age. It goes from the old end, so that one position says what is gone:
//! of all runs in `counters`, of each in `run_counters`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Tx, first, params};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// The newest position that was removed in a scope; 0: none.
pub fn of_scope(tx: &mut dyn Tx, run_key: Option<Key>) -> Result<i64> {
    match run_key {
        Some(run_key) => of_run(tx, run_key),
        None => Ok(first(tx, "SELECT compacted_position FROM counters", &[], |row| row.take())?.unwrap_or(0)),
    }
}

/// The same of a run; 0 of one that was deleted.
pub fn of_run(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT compacted_position FROM run_counters WHERE run_key = $1";
    Ok(first(tx, sql, params![run_key], |row| row.take())?.unwrap_or(0))
}

/// Where the log of a scope begins: at its oldest event, or if it has none, where its next could be.
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

/// How much is removed at once, so that others have their turn.
const AT_ONCE: usize = 16 * 1024 * 1024;

/// Removes the oldest events, a thousand at most, up to the first that is not from before a time. Returns how many.
pub fn remove_before(tx: &mut dyn Tx, time: Timestamp) -> Result<u64> {
    let mut last_of_run = BTreeMap::new();
    let mut last = None;
    let mut bytes = 0;
    let sql = "SELECT position, run_key, octet_length(payload), create_time FROM events ORDER BY position LIMIT 1000";
    tx.query(sql, &[], &mut |row| {
        let (position, run_key): (i64, Key) = (row.take()?, row.take()?);
        let is_enough = bytes > AT_ONCE;
        bytes += usize::try_from(row.take::<i64>()?).unwrap_or(0);
        let create_time: Timestamp = row.take()?;
        if create_time >= time || is_enough {
            return Ok(ControlFlow::Break(()));
        }
        last_of_run.insert(run_key, position);
        last = Some(position);
        Ok(ControlFlow::Continue(()))
    })?;
    let Some(last) = last else { return Ok(0) };
    for (run_key, position) in last_of_run {
        let sql = "UPDATE run_counters SET compacted_position = $2 WHERE run_key = $1";
        tx.execute(sql, params![run_key, position])?;
    }
    tx.execute("UPDATE counters SET compacted_position = $1", params![last])?;
    tx.execute("DELETE FROM events WHERE position <= $1", params![last])
}
