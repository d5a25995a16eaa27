//! This module reads and writes the table `imports`. The table records the digest of each import, so that no content is
//! imported twice.

use super::{Tx, first, params};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Returns the time at which content with the digest `digest` was imported, or None if the content was never imported.
pub fn find(tx: &mut dyn Tx, digest: &str) -> Result<Option<Timestamp>> {
    first(tx, "SELECT create_time FROM imports WHERE digest = $1", params![digest], |row| row.take())
}

/// Records an import with the import's digest, kind and number of runs.
pub fn insert(tx: &mut dyn Tx, digest: &str, kind: &str, run_count: i64) -> Result<()> {
    let sql = "INSERT INTO imports (digest, kind, run_count, create_time) VALUES ($1, $2, $3, $4)";
    let now = tx.now();
    tx.write(sql, params![digest, kind, run_count, now])
}
