//! Table `task_dependencies`, and the count of open ones that a task carries.

use super::{Tx, all, first, params};
use crate::domain::Key;
use crate::domain::task::TaskStatus;
use crate::error::Result;

/// Notes that a task can't begin before another is completed.
pub fn insert(tx: &mut dyn Tx, task_key: Key, depends_on_key: Key) -> Result<()> {
    let sql = "INSERT INTO task_dependencies (task_key, depends_on_key) VALUES ($1, $2)";
    tx.execute(sql, params![task_key, depends_on_key]).map(drop)
}

/// A task was completed: each that depends on it waits for one less. That is no change of those tasks themselves.
/// Returns how many there are.
pub fn close(tx: &mut dyn Tx, completed_key: Key) -> Result<u64> {
    let sql = "UPDATE tasks SET open_dependencies = open_dependencies - 1
        WHERE key IN (SELECT task_key FROM task_dependencies WHERE depends_on_key = $1)";
    tx.execute(sql, params![completed_key])
}

/// The tasks of a status that depend on one, in plan order.
pub fn dependents(tx: &mut dyn Tx, depends_on_key: Key, status: TaskStatus) -> Result<Vec<Key>> {
    let sql = "SELECT t.key FROM task_dependencies d JOIN tasks t ON t.key = d.task_key
        WHERE d.depends_on_key = $1 AND t.status = $2 ORDER BY t.ordinal";
    all(tx, sql, params![depends_on_key, status], |row| row.take())
}

/// A task depends on one that is abandoned. 5 is ABANDONED.
pub fn any_abandoned(tx: &mut dyn Tx, task_key: Key) -> Result<bool> {
    let sql = "SELECT t.key FROM task_dependencies d JOIN tasks t ON t.key = d.depends_on_key
        WHERE d.task_key = $1 AND t.status = 5 LIMIT 1";
    Ok(first(tx, sql, params![task_key], |row| row.take::<Key>())?.is_some())
}

/// A dependency that is not completed.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Open {
    pub key: Key,
    pub id: String,
    pub title: String,
    pub status: TaskStatus,
}

/// What a task still waits for, in plan order. 3 is COMPLETED.
pub fn open(tx: &mut dyn Tx, task_key: Key) -> Result<Vec<Open>> {
    let sql = "SELECT t.key, t.id, t.title, t.status FROM task_dependencies d JOIN tasks t ON t.key = d.depends_on_key
        WHERE d.task_key = $1 AND t.status <> 3 ORDER BY t.ordinal";
    all(tx, sql, params![task_key], |row| {
        Ok(Open { key: row.take()?, id: row.take()?, title: row.take()?, status: row.take()? })
    })
}
