//! This module replaces SQLite's automatic checkpoints with checkpoints that the writer starts and that are logged. A
//! checkpoint copies the write-ahead log into the database file.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::sql_error;
use crate::error::Result;

/// Minimum number of pages in the write-ahead log at which a checkpoint is due. 4,000 pages are 16 MiB. A checkpoint
/// writes each page once, even if many commits have changed the page, so fewer checkpoints write less. With SQLite's
/// default of 1,000 pages, 64 agents would claim and complete 3 % fewer tasks. With more than 4,062 pages, SQLite would
/// need a second hash table in its index of the log.
const CHECKPOINT_PAGES: i64 = 4_000;

/// Minimum duration of a checkpoint that is logged as a warning. The writer can't commit during a checkpoint.
const SLOW_CHECKPOINT: Duration = Duration::from_secs(1);

thread_local! {
    /// Number of pages in the write-ahead log after the newest commit of this thread. SQLite reports the number to the
    /// hook that `disable_automatic_checkpoints` sets. rusqlite accepts only a function without state as a hook, so the
    /// number can't be a field.
    static LOG_PAGES: Cell<i64> = const { Cell::new(0) };
}

/// The result of a checkpoint.
struct Checkpoint {
    /// If another program ran a checkpoint at the same time, the value is true. In this case, the numbers are -1.
    is_busy: bool,
    /// Number of pages in the write-ahead log.
    pages: i64,
    /// Number of pages that checkpoints have copied into the database file.
    copied: i64,
}

/// Turns off the automatic checkpoints of the connection that writes. SQLite would run them inside a commit, before the
/// calls of the commit are answered. The thread that commits must call `is_due` and `checkpoint`.
pub fn disable_automatic_checkpoints(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.wal_hook(Some(|_, pages| {
        LOG_PAGES.set(i64::from(pages));
        Ok(())
    }));
    Ok(())
}

/// Returns whether the write-ahead log has at least `CHECKPOINT_PAGES` pages, not all of which are copied.
pub fn is_due(conn: &Connection) -> rusqlite::Result<bool> {
    // Do not run the statement below after each group, because SQLite prepares a checkpoint statement again for each
    // execution.
    if LOG_PAGES.get() < CHECKPOINT_PAGES {
        return Ok(false);
    }
    // A checkpoint in the mode NOOP copies nothing and only returns the numbers.
    let Checkpoint { pages, copied, .. } = run(conn, "PRAGMA wal_checkpoint(NOOP)")?;
    Ok(pages >= CHECKPOINT_PAGES && copied < pages)
}

/// Copies as many pages as possible without waiting for readers. Fails if the database file can't be written. A failure
/// loses nothing, because all commits are durable in the write-ahead log.
pub fn checkpoint(conn: &Connection) -> Result<()> {
    let begun = Instant::now();
    let result = run(conn, "PRAGMA wal_checkpoint(PASSIVE)").map_err(sql_error)?;
    let duration = begun.elapsed();
    let duration_ms = duration.as_millis();
    match result {
        Checkpoint { is_busy: true, .. } => tracing::warn!("checkpoint failed: another program runs a checkpoint"),
        Checkpoint { pages, copied, .. } if duration >= SLOW_CHECKPOINT => {
            tracing::warn!(pages, copied, duration_ms, "slow checkpoint");
        }
        Checkpoint { pages, copied, .. } => tracing::debug!(pages, copied, duration_ms, "checkpoint"),
    }
    Ok(())
}

/// Copies all pages into the database file and empties the log. Fails with `DatabaseBusy` if another program reads the
/// log.
pub fn empty_log(conn: &Connection) -> rusqlite::Result<()> {
    if run(conn, "PRAGMA wal_checkpoint(TRUNCATE)")?.is_busy {
        return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None));
    }
    Ok(())
}

fn run(conn: &Connection, pragma: &str) -> rusqlite::Result<Checkpoint> {
    conn.prepare_cached(pragma)?
        .query_row([], |row| Ok(Checkpoint { is_busy: row.get(0)?, pages: row.get(1)?, copied: row.get(2)? }))
}

#[cfg(test)]
mod tests {
    use super::super::open_writer;
    use super::*;

    #[test]
    fn long_write_ahead_log_is_checkpointed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let conn = open_writer(&path).unwrap();
        conn.execute_batch("CREATE TABLE filled (bytes BLOB)").unwrap();
        assert!(!is_due(&conn).unwrap());
        let size_before = std::fs::metadata(&path).unwrap().len();
        // Write more than `CHECKPOINT_PAGES` pages in this commit.
        conn.execute_batch("INSERT INTO filled VALUES (zeroblob(20000000))").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size_before, "no checkpoint runs inside a commit");
        assert!(is_due(&conn).unwrap());
        checkpoint(&conn).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > size_before + 19_000_000);
        assert!(!is_due(&conn).unwrap());
    }

    #[test]
    fn checkpoint_stays_due_while_a_reader_needs_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let conn = open_writer(&path).unwrap();
        let mut reader = Connection::open(&path).unwrap();
        let reading = reader.transaction().unwrap();
        reading.query_row("SELECT COUNT(*) FROM runs", [], |row| row.get::<_, i64>(0)).unwrap();
        conn.execute_batch("CREATE TABLE filled (bytes BLOB); INSERT INTO filled VALUES (zeroblob(20000000))").unwrap();
        checkpoint(&conn).unwrap();
        assert!(is_due(&conn).unwrap());
        drop(reading);
        checkpoint(&conn).unwrap();
        assert!(!is_due(&conn).unwrap());
    }
}
