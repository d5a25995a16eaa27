//! This module reads and writes the table `artifacts`.

use super::table::{select, table};
use super::{Limit, Page, Tx, first, page, params, row_limit};
use crate::domain::Key;
use crate::domain::artifact::Artifact;
use crate::error::Result;

table! {
    artifacts a, artifact: Artifact;
    fixed { key, id, role, kind, path, metadata, create_time }
    given { run_key: Key, task_key: Option<Key> }
    joined "JOIN live_runs r ON r.key = a.run_key LEFT JOIN tasks t ON t.key = a.task_key" { run_id: "r.id", task_id: "t.id" }
}

/// Inserts a new artifact.
pub fn insert(tx: &mut dyn Tx, run_key: Key, task_key: Option<Key>, artifact: &Artifact) -> Result<()> {
    insert_row(tx, run_key, task_key, artifact)
}

/// Returns the artifact with the id `id`, or None if no artifact has this id.
pub fn find(tx: &mut dyn Tx, id: &str) -> Result<Option<Artifact>> {
    first(tx, select!("WHERE a.id = $1"), params![id], read_row)
}

/// Returns a page of the artifacts of a run that have a key greater than `after`, oldest first. If `role` is set, the
/// page contains only artifacts of this role.
pub fn list(tx: &mut dyn Tx, run_key: Key, role: Option<&str>, after: Key, limit: Limit) -> Result<Page<Artifact>> {
    let of_run = select!("WHERE a.run_key = $1 AND a.key > $2 ORDER BY a.key LIMIT $3 OFFSET $4");
    let of_role = select!("WHERE a.run_key = $1 AND a.key > $2 AND a.role = $3 ORDER BY a.key LIMIT $4 OFFSET $5");
    match role {
        None => page(tx, of_run, params![run_key, after], limit, read_row),
        Some(role) => page(tx, of_role, params![run_key, after, role], limit, read_row),
    }
}

/// Returns the key of the newest artifact of a run that is not among the run's `count` newest artifacts. Returns 0 if
/// there is no such artifact.
pub fn find_key_before_newest(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<Key> {
    let sql = "SELECT key FROM artifacts WHERE run_key = $1 ORDER BY key DESC LIMIT 1 OFFSET $2";
    Ok(first(tx, sql, params![run_key, row_limit(count)], |row| row.take())?.unwrap_or(0))
}
