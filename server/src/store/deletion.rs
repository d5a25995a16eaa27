//! Deletion of a run from every table.

use super::{Tx, all, params};
use crate::domain::Key;
use crate::domain::run::Run;
use crate::error::Result;

/// Rows that refer to other rows are deleted before these.
const STATEMENTS: [&str; 10] = [
    "DELETE FROM task_dependencies WHERE task_key IN (SELECT key FROM tasks WHERE run_key = $1)",
    "DELETE FROM task_attempts WHERE run_key = $1",
    "DELETE FROM approvals WHERE run_key = $1",
    "DELETE FROM artifacts WHERE run_key = $1",
    "DELETE FROM checkpoints WHERE run_key = $1",
    "DELETE FROM agents WHERE run_key = $1",
    "DELETE FROM tasks WHERE run_key = $1",
    "DELETE FROM run_counters WHERE run_key = $1",
    "DELETE FROM runs WHERE key = $1",
    // Keeps the run's last event, which has a deleted_run_id.
    "DELETE FROM events WHERE run_key = $1 AND deleted_run_id IS NULL",
];

/// Deletes a run and everything in it except its last event. That event keeps the id of the run.
pub fn delete(tx: &mut dyn Tx, run: &Run, last_position: i64) -> Result<()> {
    let path_sets = path_sets_of(tx, run.key)?;
    let sql = "UPDATE events SET deleted_run_id = $2 WHERE position = $1";
    tx.write(sql, params![last_position, run.id])?;
    for sql in STATEMENTS {
        tx.write(sql, params![run.key])?;
    }
    for key in path_sets {
        let sql = "DELETE FROM path_sets
            WHERE key = $1 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
        tx.write(sql, params![key])?;
    }
    Ok(())
}

fn path_sets_of(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<Key>> {
    let sql = "SELECT DISTINCT path_set_key FROM tasks WHERE run_key = $1 AND path_set_key IS NOT NULL";
    all(tx, sql, params![run_key], |row| row.take())
}
