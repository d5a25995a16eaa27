//! This module deletes a run from all tables: a small run in one transaction, and a large run in several transactions.

use std::time::{Duration, Instant};

use super::names::task_status;
use super::{Tx, any, first, params, row_limit};
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

/// The tables with rows of a run, except `events`, `task_dependencies` and `tasks`. All rows in these tables are
/// deleted before the tasks, because the rows refer to tasks.
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

/// The order makes PostgreSQL read the tasks of the run first.
const COUNT_DEPENDENCIES: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM tasks t JOIN task_dependencies d ON d.task_key = t.key
    WHERE t.run_key = $1 ORDER BY t.ordinal LIMIT $2) counted";

/// Number of rows that one statement deletes. A row can be 3 MiB large, so a statement for more rows could take too
/// long.
const ROWS_PER_STATEMENT: usize = 16;

/// Returns whether a run has more than `tasks` tasks or more than `rows` rows in all tables.
pub fn exceeds(tx: &mut dyn Tx, run_key: Key, tasks: usize, rows: usize) -> Result<bool> {
    if any(tx, "SELECT 1 FROM tasks WHERE run_key = $1 LIMIT 1 OFFSET $2", params![run_key, row_limit(tasks)])? {
        return Ok(true);
    }
    let mut remaining = row_limit(rows);
    for count in OWNED.iter().chain([&EVENTS]).map(|owned| owned.count).chain([COUNT_DEPENDENCIES]) {
        let count: Option<i64> = first(tx, count, params![run_key, remaining + 1], |row| row.take())?;
        remaining -= count.unwrap_or(0);
        if remaining < 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a run invisible to callers, and ends the leases of the run.
pub fn hide(tx: &mut dyn Tx, run_key: Key) -> Result<()> {
    record_ended_leases(tx, run_key)?;
    let end_leases = concat!(
        "UPDATE tasks SET status = ",
        task_status!(ABANDONED),
        ", lease_token = NULL WHERE run_key = $1 AND status = ",
        task_status!(IN_PROGRESS)
    );
    tx.write(end_leases, params![run_key])?;
    tx.cache().forget_state(run_key);
    tx.write("INSERT INTO deleted_runs (run_key) VALUES ($1)", params![run_key])
}

/// Deletes rows of a hidden run until `slice` has passed. Returns whether only the rows of the run itself remain.
pub fn delete_some(tx: &mut dyn Tx, run_key: Key, slice: Duration) -> Result<bool> {
    let start = Instant::now();
    for owned in [&EVENTS].into_iter().chain(&OWNED) {
        while tx.execute(owned.delete, params![run_key, row_limit(ROWS_PER_STATEMENT)])? > 0 {
            if start.elapsed() >= slice {
                return Ok(false);
            }
        }
    }
    while delete_task(tx, run_key)? {
        if start.elapsed() >= slice {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Deletes up to `ROWS_PER_STATEMENT` (16) dependencies and up to 16 dependents of a task of the run, and then the
/// task. If the task can have more of them, the function keeps the task. Returns false if the run has no task.
fn delete_task(tx: &mut dyn Tx, run_key: Key) -> Result<bool> {
    let next = "SELECT key, path_set_key FROM tasks WHERE run_key = $1 LIMIT 1";
    let next = first(tx, next, params![run_key], |row| Ok((row.take::<Key>()?, row.take::<Option<Key>>()?)))?;
    let Some((key, path_set)) = next else { return Ok(false) };
    let limit = row_limit(ROWS_PER_STATEMENT);
    let dependencies = "DELETE FROM task_dependencies WHERE task_key = $1 AND depends_on_key IN
        (SELECT depends_on_key FROM task_dependencies WHERE task_key = $1 LIMIT $2)";
    let dependents = "DELETE FROM task_dependencies WHERE depends_on_key = $1 AND task_key IN
        (SELECT task_key FROM task_dependencies WHERE depends_on_key = $1 LIMIT $2)";
    for sql in [dependencies, dependents] {
        if row_limit(usize::try_from(tx.execute(sql, params![key, limit])?).unwrap_or(usize::MAX)) == limit {
            // The task can have further dependencies or dependents.
            return Ok(true);
        }
    }
    tx.write("DELETE FROM tasks WHERE key = $1", params![key])?;
    path_set.map_or(Ok(()), |key| delete_path_set(tx, key))?;
    Ok(true)
}

/// Deletes a path set that no task uses. Keeps the path set if a task with the path set was ever leased, because the
/// claim index learns from the row that the leases have ended. `path_sets::remove_unused` deletes the row at the next
/// start.
fn delete_path_set(tx: &mut dyn Tx, key: Key) -> Result<()> {
    let keep = "UPDATE path_sets SET is_removable = 1
        WHERE key = $1 AND claim_version > 0 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
    let delete = "DELETE FROM path_sets
        WHERE key = $1 AND claim_version = 0 AND NOT EXISTS (SELECT 1 FROM tasks WHERE path_set_key = $1)";
    tx.write(keep, params![key])?;
    tx.write(delete, params![key])
}

/// Deletes a hidden run that has no rows in other tables. Of the run's events, only the event at `last_position`
/// remains.
pub fn finish(tx: &mut dyn Tx, run: &Run, last_position: i64) -> Result<()> {
    show_event(tx, run, last_position)?;
    tx.cache().forget_state(run.key);
    tx.cache().forget_counters(run.key);
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
