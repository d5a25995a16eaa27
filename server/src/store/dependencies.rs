//! This module reads and writes the table `task_dependencies`, and updates the number of open dependencies in each
//! task.

use super::names::task_status;
use super::{Tx, all, any, params};
use crate::domain::Key;
use crate::domain::task::TaskStatus;
use crate::error::Result;

/// Inserts a dependency: the task `task_key` can't be claimed before the task `depends_on_key` is completed.
pub fn insert(tx: &mut dyn Tx, task_key: Key, depends_on_key: Key) -> Result<()> {
    let sql = "INSERT INTO task_dependencies (task_key, depends_on_key) VALUES ($1, $2)";
    tx.write(sql, params![task_key, depends_on_key])
}

/// Decrements the number of open dependencies of each task that depends on a completed task, and records the tasks for
/// the claim index. The revisions of the updated tasks do not change. Call this function only if a task depends on the
/// completed task: each new claim version makes the next claim read the changes, and makes cached results of claims
/// invalid.
pub fn decrement_open_dependencies(tx: &mut dyn Tx, completed_key: Key) -> Result<()> {
    let sql = "UPDATE tasks SET open_dependencies = open_dependencies - 1, claim_version = $2
        WHERE key IN (SELECT task_key FROM task_dependencies WHERE depends_on_key = $1)";
    let version = tx.next_claim_version()?;
    tx.write(sql, params![completed_key, version])
}

/// Returns whether a task depends on an abandoned task.
pub fn has_abandoned_dependency(tx: &mut dyn Tx, task_key: Key) -> Result<bool> {
    let sql = concat!(
        "SELECT t.key FROM task_dependencies d JOIN tasks t ON t.key = d.depends_on_key
        WHERE d.task_key = $1 AND t.status = ",
        task_status!(ABANDONED),
        " LIMIT 1"
    );
    any(tx, sql, params![task_key])
}

/// Describes a dependency that is not completed.
#[derive(Debug)]
#[allow(missing_docs)] // `Task` documents the fields.
pub struct OpenDependency {
    pub key: Key,
    pub id: String,
    pub title: String,
    pub status: TaskStatus,
}

/// Returns the open dependencies of a task, in plan order.
pub fn list_open_dependencies(tx: &mut dyn Tx, task_key: Key) -> Result<Vec<OpenDependency>> {
    let sql = concat!(
        "SELECT t.key, t.id, t.title, t.status FROM task_dependencies d JOIN tasks t ON t.key = d.depends_on_key
        WHERE d.task_key = $1 AND t.status <> ",
        task_status!(COMPLETED),
        " ORDER BY t.ordinal"
    );
    all(tx, sql, params![task_key], |row| {
        Ok(OpenDependency { key: row.take()?, id: row.take()?, title: row.take()?, status: row.take()? })
    })
}
