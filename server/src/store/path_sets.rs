//! This module reads and writes the table `path_sets`, which stores the `allowed_paths` of tasks. Each distinct set of
//! paths has one row per repository.

use sha2::{Digest, Sha256};

use super::column::json_text;
use super::names::task_status;
use super::{Tx, VersionCursor, all, any, first, params, row_limit, runs};
use crate::domain::Key;
use crate::domain::glob::Glob;
use crate::domain::run::Run;
use crate::error::{Error, Result};

/// Returns the key of the path set for the paths of a task. If the table does not contain the path set, the function
/// inserts the path set first. Returns None if `paths` contains no valid glob or if the run ignores paths. Invalid
/// globs are dropped and not rejected, because an imported task can have invalid globs.
pub fn find_or_insert(tx: &mut dyn Tx, run: &Run, paths: &[String]) -> Result<Option<Key>> {
    if run.ignores_paths() {
        return Ok(None);
    }
    let paths: Vec<String> = paths.iter().filter(|path| Glob::parse(path).is_ok()).cloned().collect();
    find_or_insert_set(tx, &run.repo_path, paths)
}

/// Inserts the path sets of all tasks that have paths but no path set. A database from before schema version 2 contains
/// tasks without path sets.
pub fn insert_missing(tx: &mut dyn Tx) -> Result<()> {
    let sql = "SELECT key, run_key, allowed_paths FROM tasks WHERE path_set_key IS NULL AND allowed_paths <> '[]'";
    let undeclared: Vec<(Key, Key, Vec<String>)> =
        all(tx, sql, &[], |row| Ok((row.take()?, row.take()?, row.take()?)))?;
    for (key, run_key, paths) in undeclared {
        let run = runs::get_by_key(tx, run_key)?;
        let set = find_or_insert(tx, &run, &paths)?;
        tx.write("UPDATE tasks SET path_set_key = $2 WHERE key = $1", params![key, set])?;
    }
    Ok(())
}

/// Removes the path sets that no task uses and that the deletion of a run has kept for the claim index. Call this
/// function only before the first claim.
pub fn remove_unused(tx: &mut dyn Tx) -> Result<()> {
    let sql = "DELETE FROM path_sets
        WHERE is_removable = 1 AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.path_set_key = path_sets.key)";
    tx.write(sql, &[])
}

/// Returns the key of a path set. If the table does not contain the path set, the function inserts the path set first.
/// Returns None if `paths` is empty.
fn find_or_insert_set(tx: &mut dyn Tx, repo_path: &str, mut paths: Vec<String>) -> Result<Option<Key>> {
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return Ok(None);
    }
    let paths = json_text(&paths)?;
    let digest = Sha256::new().chain_update(json_text(&repo_path)?).chain_update(&paths).finalize().to_vec();
    let known = first(tx, "SELECT key FROM path_sets WHERE digest = $1", params![digest], |row| row.take())?;
    if known.is_some() {
        return Ok(known);
    }
    let key = tx.next_key()?;
    let sql = "INSERT INTO path_sets (key, repo_path, digest, paths) VALUES ($1, $2, $3, $4)";
    tx.write(sql, params![key, repo_path, digest, paths])?;
    Ok(Some(key))
}

/// Returns the path patterns of a path set, or None if the path set does not exist.
pub fn find_paths(tx: &mut dyn Tx, key: Key) -> Result<Option<Vec<String>>> {
    first(tx, "SELECT paths FROM path_sets WHERE key = $1", params![key], |row| row.take())
}

/// Returns the repository path of a path set. Fails if the path set does not exist.
pub fn get_repo_path(tx: &mut dyn Tx, key: Key) -> Result<String> {
    let repo = first(tx, "SELECT repo_path FROM path_sets WHERE key = $1", params![key], |row| row.take())?;
    repo.ok_or_else(|| Error::internal(format!("table `path_sets` has no path set with the key {key}: report the bug")))
}

/// Records for the claim index that a lease on a task with the path set `key` has begun or ended.
pub fn record_lease_change(tx: &mut dyn Tx, key: Key) -> Result<()> {
    let version = tx.next_claim_version()?;
    tx.write("UPDATE path_sets SET claim_version = $2 WHERE key = $1", params![key, version])
}

/// A path set, and whether an agent holds a lease on a task with this path set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSetLease {
    /// Key of the path set.
    pub key: Key,
    /// Path of the repository to which the path set belongs.
    pub repo_path: String,
    /// Whether an agent holds a lease on a task with this path set.
    pub is_leased: bool,
}

/// Expands to the condition that an agent holds a lease on a task with the path set `s`. A task that was imported as
/// IN_PROGRESS has no lease.
macro_rules! is_leased {
    () => {
        concat!(
            // PostgreSQL could answer an EXISTS by reading all leased tasks.
            "(SELECT t.key FROM tasks t WHERE t.path_set_key = s.key AND t.status = ",
            task_status!(IN_PROGRESS),
            " AND t.lease_token IS NOT NULL LIMIT 1) IS NOT NULL"
        )
    };
}

/// Returns the path sets for which a lease began or ended after the version `after`, with the version of each change,
/// oldest change first. The result contains at most `limit` path sets.
pub fn list_lease_changes(
    tx: &mut dyn Tx,
    after: VersionCursor,
    limit: usize,
) -> Result<Vec<(VersionCursor, PathSetLease)>> {
    let sql = concat!(
        "SELECT s.claim_version, s.key, s.repo_path, CASE WHEN ",
        is_leased!(),
        " THEN 1 ELSE 0 END
        FROM path_sets s WHERE s.claim_version > 0 AND (s.claim_version, s.key) > ($1, $2)
        ORDER BY s.claim_version, s.key LIMIT $3"
    );
    all(tx, sql, params![after.version, after.key, row_limit(limit)], |row| {
        let cursor = VersionCursor { version: row.take()?, key: row.take()? };
        Ok((cursor, PathSetLease { key: cursor.key, repo_path: row.take()?, is_leased: row.take()? }))
    })
}

/// Returns whether an agent holds a lease on a task with the path set `key`.
pub fn is_leased(tx: &mut dyn Tx, key: Key) -> Result<bool> {
    any(tx, concat!("SELECT 1 FROM path_sets s WHERE s.key = $1 AND ", is_leased!()), params![key])
}

/// Returns the path sets of all leased tasks.
pub fn list_leased(tx: &mut dyn Tx) -> Result<Vec<PathSetLease>> {
    let sql = concat!(
        "SELECT s.key, s.repo_path FROM tasks t JOIN path_sets s ON s.key = t.path_set_key
        WHERE t.status = ",
        task_status!(IN_PROGRESS),
        " AND t.path_set_key IS NOT NULL AND t.lease_token IS NOT NULL"
    );
    all(tx, sql, &[], |row| Ok(PathSetLease { key: row.take()?, repo_path: row.take()?, is_leased: true }))
}

/// Identifies a leased task and the path set of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LeasedTask {
    pub task_key: Key,
    pub path_set_key: Key,
}

/// Returns all leased tasks that have a path set in the repository of a run, including the tasks of other runs. A task
/// that was imported as IN_PROGRESS is not returned, because no agent holds a lease on the task.
pub fn list_leased_in_repository(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<LeasedTask>> {
    let sql = concat!(
        "SELECT t.key, t.path_set_key FROM tasks t JOIN path_sets s ON s.key = t.path_set_key
        WHERE t.status = ",
        task_status!(IN_PROGRESS),
        " AND t.path_set_key IS NOT NULL AND t.lease_token IS NOT NULL
            AND s.repo_path = (SELECT repo_path FROM runs WHERE key = $1)"
    );
    all(tx, sql, params![run_key], |row| Ok(LeasedTask { task_key: row.take()?, path_set_key: row.take()? }))
}
