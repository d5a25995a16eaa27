//! This module replaces SQLite's automatic checkpoints with checkpoints that are logged. A checkpoint copies the
//! write-ahead log into the database file.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::{CheckpointMode, Wal};

/// Minimum number of pages in the write-ahead log at which a commit starts a checkpoint. This number is SQLite's
/// default.
const CHECKPOINT_PAGES: c_int = 1_000;

/// Minimum duration of a checkpoint that is logged as a warning. The writer can't commit during a checkpoint.
const SLOW_CHECKPOINT: Duration = Duration::from_secs(1);

/// Replaces SQLite's automatic checkpoints on a connection with checkpoints that are logged.
pub fn log_checkpoints(conn: &Connection) {
    conn.wal_hook(Some(checkpoint_after_commit));
}

/// Runs a checkpoint after a commit. If the write-ahead log has fewer than `CHECKPOINT_PAGES` pages, the function does
/// nothing. If the checkpoint fails, the function returns Ok, because the commit is durable and the next commit starts
/// another checkpoint.
fn checkpoint_after_commit(wal: &Wal, pages: c_int) -> rusqlite::Result<()> {
    if pages < CHECKPOINT_PAGES {
        return Ok(());
    }
    let begun = Instant::now();
    let result = wal.checkpoint_v2(CheckpointMode::PASSIVE);
    let duration = begun.elapsed();
    let duration_ms = duration.as_millis();
    match result {
        Ok((pages, written)) if duration >= SLOW_CHECKPOINT => {
            tracing::warn!(pages, written, duration_ms, "slow checkpoint");
        }
        Ok((pages, written)) => tracing::debug!(pages, written, duration_ms, "checkpoint"),
        Err(error) => tracing::warn!(%error, pages, "checkpoint failed"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::open_writer;

    #[test]
    fn long_write_ahead_log_is_checkpointed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let conn = open_writer(&path).unwrap();
        conn.execute_batch("CREATE TABLE filled (bytes BLOB)").unwrap();
        let size_before = std::fs::metadata(&path).unwrap().len();
        // Write more than `CHECKPOINT_PAGES` pages in this commit, because a smaller commit starts no checkpoint.
        conn.execute_batch("INSERT INTO filled VALUES (zeroblob(8000000))").unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > size_before + 7_000_000);
    }
}
