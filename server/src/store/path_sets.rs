//! Table `path_sets`: the `allowed_paths` of tasks. Each distinct set of paths is stored once per repository.

use sha2::{Digest, Sha256};

use super::column::json_text;
use super::names::task_status;
use super::{Tx, all, first, params, runs};
use crate::domain::Key;
use crate::domain::glob::Glob;
use crate::domain::run::Run;
use crate::error::{Error, Result};

/// Returns the key of the path set of a task with these paths, and adds the set if it is new. Returns None if there are no
/// paths or the run ignores paths. Paths that are no valid globs, which an import may bring, are left out.
pub fn of_task(tx: &mut dyn Tx, run: &Run, paths: &[String]) -> Result<Option<Key>> {
    if run.ignores_paths() {
        return Ok(None);
    }
    let paths: Vec<String> = paths.iter().filter(|path| Glob::parse(path).is_ok()).cloned().collect();
    intern(tx, &run.repo_path, paths)
}

/// Adds the path sets of all tasks that have paths and no set, as in a database from before there were sets.
pub fn declare_all(tx: &mut dyn Tx) -> Result<()> {
    let sql = "SELECT key, run_key, allowed_paths FROM tasks WHERE path_set_key IS NULL AND allowed_paths <> '[]'";
    let undeclared: Vec<(Key, Key, Vec<String>)> =
        all(tx, sql, &[], |row| Ok((row.take()?, row.take()?, row.take()?)))?;
    for (key, run_key, paths) in undeclared {
        let run = runs::by_key(tx, run_key)?;
        let set = of_task(tx, &run, &paths)?;
        tx.write("UPDATE tasks SET path_set_key = $2 WHERE key = $1", params![key, set])?;
    }
    Ok(())
}

/// Returns the key of a set, which is added if it is new, or None if the set is empty.
fn intern(tx: &mut dyn Tx, repo_path: &str, mut paths: Vec<String>) -> Result<Option<Key>> {
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

/// Returns the patterns of a set, which must exist.
pub fn paths(tx: &mut dyn Tx, key: Key) -> Result<Vec<String>> {
    let paths = first(tx, "SELECT paths FROM path_sets WHERE key = $1", params![key], |row| row.take())?;
    paths.ok_or_else(|| Error::internal(format!("no path set has the key {key}")))
}

/// Returns the repository of a set, which must exist.
pub fn repo_path(tx: &mut dyn Tx, key: Key) -> Result<String> {
    let repo = first(tx, "SELECT repo_path FROM path_sets WHERE key = $1", params![key], |row| row.take())?;
    repo.ok_or_else(|| Error::internal(format!("no path set has the key {key}")))
}

/// A task in progress and its path set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Held {
    pub task_key: Key,
    pub path_set_key: Key,
}

/// Returns the held tasks with paths of all runs in the repository of a run. A task that was imported in progress has no
/// lease and is held by nobody.
pub fn held_beside(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<Held>> {
    let sql = concat!(
        "SELECT t.key, t.path_set_key FROM tasks t JOIN path_sets s ON s.key = t.path_set_key
        WHERE t.status = ",
        task_status!(IN_PROGRESS),
        " AND t.path_set_key IS NOT NULL AND t.lease_token IS NOT NULL
            AND s.repo_path = (SELECT repo_path FROM runs WHERE key = $1)"
    );
    all(tx, sql, params![run_key], |row| Ok(Held { task_key: row.take()?, path_set_key: row.take()? }))
}
