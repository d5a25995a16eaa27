//! This module replaces SQLite's automatic checkpoints with checkpoints that the writer starts and that are logged. A
//! checkpoint copies the write-ahead log into the database file.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::sql_error;
use crate::error::Result;
use crate::store::read_gate::ReadGate;

/// Minimum number of pages in the write-ahead log at which a checkpoint is due. 4,000 pages are 16 MiB. A checkpoint
/// writes each page once, even if many commits have changed the page, so fewer checkpoints write less. With SQLite's
/// default of 1,000 pages, 64 agents would claim and complete 3 % fewer tasks. With more than 4,062 pages, SQLite would
/// need a second hash table in its index of the log.
const CHECKPOINT_PAGES: i64 = 4_000;

/// Minimum duration of a checkpoint that is logged as a warning. The writer can't commit during a checkpoint.
const SLOW_CHECKPOINT: Duration = Duration::from_secs(1);

/// Number of pages by which the write-ahead log must grow until the next checkpoint, if a checkpoint could not copy all
/// pages or the log could not begin again, because of a read.
const NEXT_PAGES: i64 = 1_000;

/// Number of pages in the write-ahead log at which the writer holds back new reads, so that the log can begin again.
/// 16,000 pages are 63 MiB.
const LONG_LOG_PAGES: i64 = 16_000;

/// Time for which the writer holds back new reads at first. Most reads end within a few milliseconds.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// Maximum time for which the writer holds back new reads, a little longer than the longest read
/// (`limits::SNAPSHOT_TIME`).
const LONGEST_WAIT: Duration = Duration::from_secs(12);

/// Maximum size of the file of the write-ahead log after the log has begun again (64 MiB).
const KEPT_LOG_BYTES: i64 = 64 * 1024 * 1024;

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

/// Turns off the automatic checkpoints of the connection that writes, and limits the file of the write-ahead log.
/// SQLite would run the checkpoints inside a commit, before the calls of the commit are answered. The thread that
/// commits must use a `Checkpointer`.
pub fn configure(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", KEPT_LOG_BYTES)?;
    conn.wal_hook(Some(|_, pages| {
        LOG_PAGES.set(i64::from(pages));
        Ok(())
    }));
    Ok(())
}

/// Decides when the writer runs a checkpoint.
#[derive(Debug)]
pub struct Checkpointer {
    gate: Arc<ReadGate>,
    /// Number of pages at which the next checkpoint is due.
    next_pages: i64,
    /// Number of pages at which the next checkpoint waits until no read is running.
    next_long_pages: i64,
    /// Number of pages at the last call of `is_due`.
    last_pages: i64,
    /// Time since which the gate is closed. If the gate is open, the value is None.
    closed_since: Option<Instant>,
    /// Maximum time for which the gate stays closed.
    longest_wait: Duration,
}

/// Lets the reads continue that wait for a checkpoint.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.gate.open();
    }
}

impl Checkpointer {
    /// Returns the checkpointer of a database whose reads pass `gate`.
    pub fn new(gate: Arc<ReadGate>) -> Self {
        Self {
            gate,
            next_pages: CHECKPOINT_PAGES,
            next_long_pages: LONG_LOG_PAGES,
            last_pages: 0,
            closed_since: None,
            longest_wait: SHORTEST_WAIT,
        }
    }

    /// Returns whether the write-ahead log is so long that `run` should run.
    pub fn is_due(&mut self) -> bool {
        let pages = LOG_PAGES.get();
        if pages < self.last_pages {
            // The log has begun again.
            self.next_pages = CHECKPOINT_PAGES;
            self.next_long_pages = LONG_LOG_PAGES;
            self.longest_wait = SHORTEST_WAIT;
            self.open_gate();
        }
        self.last_pages = pages;
        pages >= self.next_pages
    }

    /// Runs a checkpoint. After the next commit, SQLite writes over the log from its beginning if the checkpoint has
    /// copied all pages and no read needs the log. If the log is long, first holds back new reads until no read is
    /// running: until then, the function returns without a checkpoint. Fails if the database file can't be written.
    pub fn run(&mut self, conn: &Connection) -> Result<()> {
        if self.last_pages >= self.next_long_pages && self.must_wait_for_reads() {
            return Ok(());
        }
        let result = checkpoint(conn);
        self.open_gate();
        self.next_pages = self.last_pages + NEXT_PAGES;
        result
    }

    /// Holds back new reads, and returns whether the checkpoint must wait for a read. If the running reads take too
    /// long, returns false: the checkpoint of the next `NEXT_PAGES` pages then waits twice as long.
    fn must_wait_for_reads(&mut self) -> bool {
        if self.gate.close() {
            // A read of another program, such as a backup, is not held back, and can need the log until its end.
            self.next_long_pages = self.last_pages + LONG_LOG_PAGES;
            return false;
        }
        let closed_since = *self.closed_since.get_or_insert_with(Instant::now);
        if closed_since.elapsed() < self.longest_wait {
            return true;
        }
        self.longest_wait = (self.longest_wait * 2).min(LONGEST_WAIT);
        self.next_long_pages = self.last_pages + NEXT_PAGES;
        false
    }

    fn open_gate(&mut self) {
        self.closed_since = None;
        self.gate.open();
    }
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
mod tests;
