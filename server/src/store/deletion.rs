//! Deleting a run: every table that has something of it.

use super::{Tx, all, params};
use crate::domain::Key;
use crate::domain::run::Run;
use crate::error::Result;

/// What refers to a row goes before it.
const TABLES: [&str; 10] = [
    "DELETE FROM task_dependencies WHERE task_key IN (SELECT key FROM tasks WHERE run_key = $1)",
    "DELETE FROM task_attempts WHERE run_key = $1",
    "DELETE FROM approvals WHERE run_key = $1",
    "DELETE FROM artifacts WHERE run_key = $1",
    "DELETE FROM checkpoints WHERE run_key = $1",
    "DELETE FROM agents WHERE run_key = $1",
    "DELETE FROM tasks WHERE run_key = $1",
    "DELETE FROM run_counters WHERE run_key = $1",
    "DELETE FROM runs WHERE key = $1",
    // All but the last, which has just been given the run's id to keep.
    "DELETE FROM events WHERE run_key = $1 AND deleted_run_id IS NULL",
];

/// Deletes all of a run but for its last event, which keeps its id.
pub fn delete(tx: &mut dyn Tx, run: &Run, last_position: i64) -> Result<()> {
    let path_sets = path_sets_of(tx, run.key)?;
    let sql = "UPDATE events SET deleted_run_id = $2 WHERE position = $1";
    tx.execute(sql, params![last_position, run.id])?;
    for sql in TABLES {
        tx.execute(sql, params![run.key])?;
    }
    for key in path_sets {
        let sql = "DELETE FROM path_sets
            WHERE key = $1 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
        tx.execute(sql, params![key])?;
    }
    Ok(())
}

fn path_sets_of(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<Key>> {
    let sql = "SELECT DISTINCT path_set_key FROM tasks WHERE run_key = $1 AND path_set_key IS NOT NULL";
    all(tx, sql, params![run_key], |row| row.take())
}
