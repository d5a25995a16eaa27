//! The connection that writes, as the writer's session.

use std::sync::Arc;

use rusqlite::Connection;

use super::{SqliteTx, sql_error};
use crate::clock::{Clock, Ids};
use crate::error::Result;
use crate::store::session::{CommitOutcome, Counted, Ran, WriteSession};
use crate::store::{Tx, counters};

/// The only connection that writes to the file. The lock file keeps other servers away.
pub(in crate::store) struct SqliteSession {
    conn: Connection,
    clock: Arc<dyn Clock>,
    ids: Ids,
    /// Kept here because no other process changes the row of `counters`.
    committed: Counted,
}

impl SqliteSession {
    pub fn new(conn: Connection, clock: Arc<dyn Clock>, ids: Ids, committed: Counted) -> Self {
        Self { conn, clock, ids, committed }
    }

    fn tx(&self, counted: Counted) -> SqliteTx<'_> {
        SqliteTx::new(&self.conn, self.clock.as_ref(), &self.ids, Some(counted))
    }

    fn run_sql(&self, sql: &str) -> Result<()> {
        let mut statement = self.conn.prepare_cached(sql).map_err(sql_error)?;
        statement.raw_execute().map(drop).map_err(sql_error)
    }

    fn try_commit(&self, counted: Counted, has_written: bool) -> Result<()> {
        if has_written {
            counters::save(&mut self.tx(counted), counted)?;
        }
        self.run_sql("COMMIT")
    }
}

impl WriteSession for SqliteSession {
    fn begin(&mut self) -> Result<Counted> {
        self.run_sql("BEGIN IMMEDIATE")?;
        Ok(self.committed)
    }

    fn run(&mut self, counted: Counted, body: impl FnOnce(&mut dyn Tx) -> bool) -> Ran {
        let mut tx = self.tx(counted);
        let is_done = body(&mut tx);
        let counted = tx.counted().unwrap_or(counted);
        Ran { is_done, counted, has_written: tx.has_written(), signals: tx.into_signals() }
    }

    fn set_savepoint(&mut self) -> Result<()> {
        self.run_sql("SAVEPOINT body")
    }

    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()> {
        if !keeps_changes {
            self.run_sql("ROLLBACK TO body")?;
        }
        self.run_sql("RELEASE body")
    }

    fn is_whole(&self) -> bool {
        !self.conn.is_autocommit()
    }

    fn commit(&mut self, counted: Counted, has_written: bool) -> CommitOutcome {
        match self.try_commit(counted, has_written) {
            Ok(()) => {
                self.committed = counted;
                CommitOutcome::Committed
            }
            Err(error) => CommitOutcome::Failed(error),
        }
    }

    fn rollback(&mut self) {
        if self.is_whole() {
            // If even this fails, the next BEGIN reports it.
            let _ = self.run_sql("ROLLBACK");
        }
    }
}
