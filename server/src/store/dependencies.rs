//! Table `task_dependencies`, and the number of open dependencies that each task carries.

use super::names::task_status;
use super::{Tx, all, any, params};
use crate::domain::Key;
use crate::domain::task::TaskStatus;
use crate::error::Result;

/// Adds a dependency: the task can't be claimed before the other task is completed.
pub fn insert(tx: &mut dyn Tx, task_key: Key, depends_on_key: Key) -> Result<()> {
    let sql = "INSERT INTO task_dependencies (task_key, depends_on_key) VALUES ($1, $2)";
    tx.write(sql, params![task_key, depends_on_key])
}

/// Lowers the number of open dependencies of each task that depends on a completed one. The revisions of these tasks stay.
/// Returns the number of these tasks.
pub fn close(tx: &mut dyn Tx, completed_key: Key) -> Result<u64> {
    let sql = "UPDATE tasks SET open_dependencies = open_dependencies - 1
        WHERE key IN (SELECT task_key FROM task_dependencies WHERE depends_on_key = $1)";
    tx.execute(sql, params![completed_key])
}

/// Returns the tasks with this status that depend on a task, in plan order.
pub fn dependents(tx: &mut dyn Tx, depends_on_key: Key, status: TaskStatus) -> Result<Vec<Key>> {
    let sql = "SELECT t.key FROM task_dependencies d JOIN tasks t ON t.key = d.task_key
        WHERE d.depends_on_key = $1 AND t.status = $2 ORDER BY t.ordinal";
    all(tx, sql, params![depends_on_key, status], |row| row.take())
}

/// Returns whether a task depends on an abandoned one.
pub fn any_abandoned(tx: &mut dyn Tx, task_key: Key) -> Result<bool> {
    let sql = concat!(
        "SELECT t.key FROM task_dependencies d JOIN tasks t ON t.key = d.depends_on_key
        WHERE d.task_key = $1 AND t.status = ",
        task_status!(ABANDONED),
        " LIMIT 1"
    );
    any(tx, sql, params![task_key])
}

/// A dependency that is not completed.
#[derive(Debug)]
#[allow(missing_docs)] // As in `Task`.
pub struct Open {
    pub key: Key,
    pub id: String,
    pub title: String,
    pub status: TaskStatus,
}

/// Returns the open dependencies of a task, in plan order.
pub fn open(tx: &mut dyn Tx, task_key: Key) -> Result<Vec<Open>> {
    let sql = concat!(
        "SELECT t.key, t.id, t.title, t.status FROM task_dependencies d JOIN tasks t ON t.key = d.depends_on_key
        WHERE d.task_key = $1 AND t.status <> ",
        task_status!(COMPLETED),
        " ORDER BY t.ordinal"
    );
    all(tx, sql, params![task_key], |row| {
        Ok(Open { key: row.take()?, id: row.take()?, title: row.take()?, status: row.take()? })
    })
}
