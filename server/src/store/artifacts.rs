//! Table `artifacts`.

use super::{Columns, Limit, Page, Tx, page, params, rows_of};
use crate::domain::Key;
use crate::domain::artifact::Artifact;
use crate::error::Result;

rows_of!($ "SELECT a.key, a.id, r.id, t.id, a.role, a.kind, a.path, a.metadata, a.create_time
    FROM artifacts a JOIN runs r ON r.key = a.run_key LEFT JOIN tasks t ON t.key = a.task_key ");

fn artifact(row: &mut Columns) -> Result<Artifact> {
    Ok(Artifact {
        key: row.take()?,
        id: row.take()?,
        run_id: row.take()?,
        task_id: row.take()?,
        role: row.take()?,
        kind: row.take()?,
        path: row.take()?,
        metadata: row.take()?,
        create_time: row.take()?,
    })
}

/// Adds an artifact.
pub fn insert(tx: &mut dyn Tx, run_key: Key, task_key: Option<Key>, artifact: &Artifact) -> Result<()> {
    let sql = "INSERT INTO artifacts (key, id, run_key, task_key, role, kind, path, metadata, create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let Artifact { key, id, role, kind, path, metadata, create_time, .. } = artifact;
    tx.execute(sql, params![key, id, run_key, task_key, role, kind, path, metadata, create_time]).map(drop)
}

/// Artifacts of a run, or of one role in it, after a key, the oldest first.
pub fn list(tx: &mut dyn Tx, run_key: Key, role: Option<&str>, after: Key, limit: Limit) -> Result<Page<Artifact>> {
    let of_run = select!("WHERE a.run_key = $1 AND a.key > $2 ORDER BY a.key");
    let of_role = select!("WHERE a.run_key = $1 AND a.key > $2 AND a.role = $3 ORDER BY a.key");
    match role {
        None => page(tx, of_run, params![run_key, after], limit, artifact),
        Some(role) => page(tx, of_role, params![run_key, after, role], limit, artifact),
    }
}
