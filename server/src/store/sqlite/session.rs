//! This module implements the writer's session on an SQLite connection.

use std::sync::Arc;

use rusqlite::Connection;

use super::statements::{KeptStatements, Statements};
use super::{SqliteTx, checkpoint, sql_error};
use crate::clock::{Clock, IdGenerator};
use crate::domain::time::ClockStep;
use crate::error::Result;
use crate::store::session::{BodyEffects, CommitOutcome, LastAssigned, WriteDatabase, WriteSession};
use crate::store::{Transaction, Tx, counters};

/// Owns the only connection that writes to the database file. The lock file prevents other servers from opening the
/// database file.
pub(in crate::store) struct SqliteWriter {
    conn: Connection,
    clock: Arc<dyn Clock>,
    ids: IdGenerator,
    /// Last numbers that were committed before the server started.
    last_assigned: LastAssigned,
}

impl SqliteWriter {
    pub fn new(conn: Connection, clock: Arc<dyn Clock>, ids: IdGenerator, last_assigned: LastAssigned) -> Self {
        Self { conn, clock, ids, last_assigned }
    }
}

impl WriteDatabase for SqliteWriter {
    type Session<'a> = SqliteSession<'a>;

    fn session(&self) -> SqliteSession<'_> {
        SqliteSession {
            conn: &self.conn,
            statements: KeptStatements::new(&self.conn),
            clock: self.clock.as_ref(),
            ids: &self.ids,
            committed: self.last_assigned,
            transaction: Transaction::default(),
            clock_step: ClockStep::NONE,
        }
    }
}

/// Runs transactions on the connection of a `SqliteWriter`.
pub(in crate::store) struct SqliteSession<'a> {
    conn: &'a Connection,
    statements: KeptStatements<'a>,
    clock: &'a dyn Clock,
    ids: &'a IdGenerator,
    /// Last committed numbers. The copy in memory is always current, because no other process changes the table
    /// `counters`.
    committed: LastAssigned,
    /// The newest transaction of this session.
    transaction: Transaction,
    /// The step of the clock that the bodies of the open transaction have requested.
    clock_step: ClockStep,
}

impl SqliteSession<'_> {
    fn create_tx(&self, last_assigned: LastAssigned) -> SqliteTx<'_> {
        let tx = SqliteTx::new(&self.statements, self.clock, self.ids, Some(last_assigned));
        tx.in_transaction(self.transaction, self.clock_step)
    }

    fn run_sql(&self, sql: &'static str) -> Result<()> {
        self.statements.run_prepared(sql, &[], &mut |statement| statement.raw_execute().map(drop).map_err(sql_error))
    }

    fn try_commit(&self, last_assigned: LastAssigned, has_written: bool) -> Result<()> {
        if has_written {
            counters::save(&mut self.create_tx(last_assigned), last_assigned)?;
        }
        self.run_sql("COMMIT")
    }
}

impl WriteSession for SqliteSession<'_> {
    fn begin(&mut self) -> Result<LastAssigned> {
        self.run_sql("BEGIN IMMEDIATE")?;
        self.transaction.number += 1;
        Ok(self.committed)
    }

    fn run(&mut self, last_assigned: LastAssigned, body: impl FnOnce(&mut dyn Tx) -> bool) -> BodyEffects {
        let mut tx = self.create_tx(last_assigned);
        let is_done = body(&mut tx);
        let clock_step = if is_done { tx.clock_step() } else { ClockStep::NONE };
        let last_assigned = tx.last_assigned().unwrap_or(last_assigned);
        let effects = BodyEffects { is_done, last_assigned, has_written: tx.has_written(), signals: tx.into_signals() };
        self.clock_step = self.clock_step.then(clock_step);
        effects
    }

    fn set_savepoint(&mut self) -> Result<()> {
        self.run_sql("SAVEPOINT body")
    }

    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()> {
        if !keeps_changes {
            self.run_sql("ROLLBACK TO body")?;
            // Change the number, so that caches in memory undo the changes that the caches have read from the body.
            self.transaction.number += 1;
            self.transaction.rollbacks += 1;
        }
        self.run_sql("RELEASE body")
    }

    fn can_commit(&self) -> bool {
        !self.conn.is_autocommit()
    }

    fn commit(&mut self, last_assigned: LastAssigned, has_written: bool) -> CommitOutcome {
        match self.try_commit(last_assigned, has_written) {
            Ok(()) => {
                self.committed = last_assigned;
                self.clock.adopt(std::mem::take(&mut self.clock_step));
                CommitOutcome::Committed
            }
            Err(error) => CommitOutcome::Failed(error),
        }
    }

    fn rollback(&mut self) {
        self.transaction.rollbacks += 1;
        self.clock_step = ClockStep::NONE;
        if self.can_commit() {
            // Ignore the error, because the next BEGIN reports a failed rollback.
            let _ = self.run_sql("ROLLBACK");
        }
    }

    fn is_checkpoint_due(&mut self) -> bool {
        // If the size of the log can't be read, try a checkpoint, which logs the cause of the failure.
        checkpoint::is_due(self.conn).unwrap_or(true)
    }

    fn checkpoint(&mut self) {
        checkpoint::checkpoint(self.conn);
    }
}
