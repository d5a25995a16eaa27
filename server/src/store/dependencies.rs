//! Table `task_dependencies`, and the count of open ones that a task carries.

use super::{Tx, all, params};
use crate::domain::Key;
use crate::error::Result;

/// Notes that a task can't begin before another is completed.
pub fn insert(tx: &mut dyn Tx, task_key: Key, depends_on_key: Key) -> Result<()> {
    let sql = "INSERT INTO task_dependencies (task_key, depends_on_key) VALUES ($1, $2)";
    tx.execute(sql, params![task_key, depends_on_key]).map(drop)
}

/// A task was completed: each that depends on it waits for one less. That is no change of those tasks themselves.
pub fn close(tx: &mut dyn Tx, completed_key: Key) -> Result<()> {
    let sql = "UPDATE tasks SET open_dependencies = open_dependencies - 1
        WHERE key IN (SELECT task_key FROM task_dependencies WHERE depends_on_key = $1)";
    tx.execute(sql, params![completed_key]).map(drop)
}

/// The pending tasks that depend on one, in plan order. 1 is PENDING.
pub fn pending_dependents(tx: &mut dyn Tx, depends_on_key: Key) -> Result<Vec<Key>> {
    let sql = "SELECT t.key FROM task_dependencies d JOIN tasks t ON t.key = d.task_key
        WHERE d.depends_on_key = $1 AND t.status = 1 ORDER BY t.ordinal";
    all(tx, sql, params![depends_on_key], |row| row.take())
}
