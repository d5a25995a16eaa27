//! This module deletes a run from all tables.

use super::names::task_status;
use super::{Tx, all, params};
use crate::domain::Key;
use crate::domain::run::Run;
use crate::error::Result;

/// SQL statements that delete a run. The order of the statements ensures that a foreign key never refers to a deleted
/// row.
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
    // Keep the event `run_deleted`, which has a `deleted_run_id`, because watchers learn of the deletion from this
    // event.
    "DELETE FROM events WHERE run_key = $1 AND deleted_run_id IS NULL",
];

/// Deletes a run and the rows of the run in all tables, except the event at `last_position`. The remaining event stores
/// the id of the deleted run in `deleted_run_id`.
pub fn delete(tx: &mut dyn Tx, run: &Run, last_position: i64) -> Result<()> {
    let path_sets = list_path_sets(tx, run.key)?;
    let version = tx.next_claim_version()?;
    record_ended_leases(tx, run.key, version)?;
    let sql = "UPDATE events SET deleted_run_id = $2 WHERE position = $1";
    tx.write(sql, params![last_position, run.id])?;
    for sql in STATEMENTS {
        tx.write(sql, params![run.key])?;
    }
    for key in path_sets {
        // Keep the path sets of tasks that were ever leased, because the claim index of each server reads from these
        // rows that the leases have ended. `path_sets::remove_unused` removes the rows at the next start.
        let keep = "UPDATE path_sets SET is_removable = 1
            WHERE key = $1 AND claim_version > 0 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
        let delete = "DELETE FROM path_sets
            WHERE key = $1 AND claim_version = 0 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
        tx.write(keep, params![key])?;
        tx.write(delete, params![key])?;
    }
    Ok(())
}

/// Records for the claim index that the leases of the run end. A run that is COMPLETED or FAILED can still have leased
/// tasks.
fn record_ended_leases(tx: &mut dyn Tx, run_key: Key, version: i64) -> Result<()> {
    let sql = concat!(
        "UPDATE path_sets SET claim_version = $2 WHERE key IN
        (SELECT path_set_key FROM tasks WHERE run_key = $1 AND path_set_key IS NOT NULL AND status = ",
        task_status!(IN_PROGRESS),
        ")"
    );
    tx.write(sql, params![run_key, version])
}

fn list_path_sets(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<Key>> {
    let sql = "SELECT DISTINCT path_set_key FROM tasks WHERE run_key = $1 AND path_set_key IS NOT NULL";
    all(tx, sql, params![run_key], |row| row.take())
}
