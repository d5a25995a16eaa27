//! This module deletes a run from all tables: a small run in one transaction, and a large run in several transactions.

use super::names::{task_status, verdict};
use super::{Tx, all, any, first, params, row_limit};
use crate::domain::Key;
use crate::domain::run::Run;
use crate::error::Result;

/// A table with rows of a run.
struct OwnedRows {
    /// The statement that returns the number of the run's rows, but at most `$2`.
    count: &'static str,
    /// The statement that deletes at most `$2` of the run's rows.
    delete: &'static str,
}

/// Declares the tables with rows of a run by the column that identifies a row.
macro_rules! owned_rows {
    ($($table:literal by $key:literal),+ $(,)?) => {
        [$(OwnedRows {
            count: concat!("SELECT COUNT(*) FROM (SELECT 1 FROM ", $table, " WHERE run_key = $1 LIMIT $2) counted"),
            delete: concat!(
                "DELETE FROM ", $table, " WHERE ", $key, " IN (SELECT ", $key, " FROM ", $table,
                " WHERE run_key = $1 LIMIT $2) AND run_key = $1"
            ),
        }),+]
    };
}

/// The tables with rows of a run, except `events`, `task_dependencies` and `tasks`. All rows in these tables are deleted
/// before the tasks, because the rows refer to tasks.
const OWNED: [OwnedRows; 5] = owned_rows![
    "task_attempts" by "key",
    "approvals" by "key",
    "artifacts" by "key",
    "checkpoints" by "key",
    "agents" by "role",
];

/// The events of a run, without the event that tells watchers of the deletion.
const EVENTS: OwnedRows = OwnedRows {
    count: "SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE run_key = $1 LIMIT $2) counted",
    delete: "DELETE FROM events WHERE position IN
        (SELECT position FROM events WHERE run_key = $1 AND deleted_run_id IS NULL LIMIT $2)",
};

const DEPENDENCIES: OwnedRows = OwnedRows {
    count: "SELECT COUNT(*) FROM
        (SELECT 1 FROM tasks t JOIN task_dependencies d ON d.task_key = t.key WHERE t.run_key = $1 LIMIT $2) counted",
    delete: "DELETE FROM task_dependencies WHERE (task_key, depends_on_key) IN
        (SELECT d.task_key, d.depends_on_key FROM tasks t JOIN task_dependencies d ON d.task_key = t.key
        WHERE t.run_key = $1 LIMIT $2)",
};

/// Returns whether a run has more than `tasks` tasks or more than `rows` rows in all tables.
pub fn is_larger(tx: &mut dyn Tx, run_key: Key, tasks: usize, rows: usize) -> Result<bool> {
    if any(tx, "SELECT 1 FROM tasks WHERE run_key = $1 LIMIT 1 OFFSET $2", params![run_key, row_limit(tasks)])? {
        return Ok(true);
    }
    let mut remaining = row_limit(rows);
    for owned in OWNED.iter().chain([&EVENTS, &DEPENDENCIES]) {
        let count: Option<i64> = first(tx, owned.count, params![run_key, remaining + 1], |row| row.take())?;
        remaining -= count.unwrap_or(0);
        if remaining < 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a run invisible to callers. Ends the leases and the pending approvals of the run, so that none of them becomes
/// due.
pub fn hide(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    record_ended_leases(tx, run_key)?;
    let end_leases = concat!(
        "UPDATE tasks SET status = ",
        task_status!(ABANDONED),
        ", lease_token = NULL WHERE run_key = $1 AND status = ",
        task_status!(IN_PROGRESS)
    );
    let end_approvals = concat!(
        "UPDATE approvals SET verdict = ",
        verdict!(CANCELLED),
        " WHERE run_key = $1 AND verdict = ",
        verdict!(PENDING)
    );
    tx.write(end_leases, params![run_key])?;
    tx.write(end_approvals, params![run_key])?;
    tx.write("INSERT INTO deleted_runs (run_key) VALUES ($1)", params![run_key])
}

/// Deletes at most `limit` rows of a hidden run. Returns whether only the rows of the run itself remain.
pub fn delete_some(tx: &mut dyn Tx, run_key: Key, limit: usize) -> Result<bool> {
    let mut remaining = row_limit(limit);
    for owned in [&DEPENDENCIES, &EVENTS].into_iter().chain(&OWNED) {
        let deleted = tx.execute(owned.delete, params![run_key, remaining])?;
        remaining -= i64::try_from(deleted).unwrap_or(i64::MAX);
        if remaining <= 0 {
            return Ok(false);
        }
    }
    delete_tasks(tx, run_key, remaining)
}

/// Deletes at most `limit` tasks without dependencies, and the path sets that no other task uses. Returns whether no
/// task remains.
fn delete_tasks(tx: &mut dyn Tx, run_key: Key, limit: i64) -> Result<bool> {
    let sql =
        "DELETE FROM tasks WHERE key IN (SELECT key FROM tasks WHERE run_key = $1 LIMIT $2) RETURNING path_set_key";
    let mut path_sets: Vec<Option<Key>> = all(tx, sql, params![run_key, limit], |row| row.take())?;
    let is_last = row_limit(path_sets.len()) < limit;
    path_sets.sort_unstable();
    path_sets.dedup();
    for key in path_sets.into_iter().flatten() {
        delete_path_set(tx, key)?;
    }
    Ok(is_last)
}

/// Deletes a path set that no task uses. Keeps the path set if a task with the path set was ever leased, because the
/// claim index of each server reads from the row that the leases have ended. `path_sets::remove_unused` deletes the row
/// at the next start.
fn delete_path_set(tx: &mut dyn Tx, key: Key) -> Result<()> {
    let keep = "UPDATE path_sets SET is_removable = 1
        WHERE key = $1 AND claim_version > 0 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
    let delete = "DELETE FROM path_sets
        WHERE key = $1 AND claim_version = 0 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
    tx.write(keep, params![key])?;
    tx.write(delete, params![key])
}

/// Deletes a hidden run that has no rows in other tables. Of the run's events, only the event at `last_position` remains.
pub fn finish(tx: &mut dyn Tx, run: &Run, last_position: i64) -> Result<()> {
    show_event(tx, run, last_position)?;
    tx.write("DELETE FROM events WHERE run_key = $1 AND position < $2", params![run.key, last_position])?;
    for sql in [
        "DELETE FROM deleted_runs WHERE run_key = $1",
        "DELETE FROM run_counters WHERE run_key = $1",
        "DELETE FROM runs WHERE key = $1",
    ] {
        tx.write(sql, params![run.key])?;
    }
    Ok(())
}

/// Makes an event of a hidden run visible, because watchers learn of the deletion from this event.
pub fn show_event(tx: &mut dyn Tx, run: &Run, position: i64) -> Result<()> {
    tx.write("UPDATE events SET deleted_run_id = $2 WHERE position = $1", params![position, run.id])
}

/// Records for the claim index that the leases of the run end. A run that is COMPLETED or FAILED can still have leased
/// tasks.
fn record_ended_leases(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    let version = tx.next_claim_version()?;
    let sql = concat!(
        "UPDATE path_sets SET claim_version = $2 WHERE key IN
        (SELECT path_set_key FROM tasks WHERE run_key = $1 AND path_set_key IS NOT NULL AND status = ",
        task_status!(IN_PROGRESS),
        ")"
    );
    tx.write(sql, params![run_key, version])
}
