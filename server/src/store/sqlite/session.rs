//! This module implements the writer's session on an SQLite connection.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::checkpoint::Checkpointer;
use super::file::{DatabaseFile, WalFile};
use super::statements::{KeptStatements, Statements};
use super::{SqliteTx, checkpoint, mark, space, sql_error};
use crate::clock::{Clock, IdGenerator};
use crate::error::{Error, Result};
use crate::store::body_tx::OpenTransaction;
use crate::store::read_gate::ReadGate;
use crate::store::session::{BodyEffects, CommitOutcome, LastAssigned, ReadAhead, WriteDatabase, WriteSession};
use crate::store::{Signal, Transaction, Tx, counters};

/// The locked files of an open database. SQLite also has the files open.
pub(in crate::store) struct OpenFiles {
    pub wal: WalFile,
    pub database: Arc<DatabaseFile>,
    /// Holds back the reads of the database.
    pub gate: Arc<ReadGate>,
}

impl OpenFiles {
    /// Fails if the path of the database or of its write-ahead log does not lead to the open file any more. Other
    /// programs and the next server would not see what this server commits.
    fn check_in_place(&self) -> Result<()> {
        let checked = self.database.check_in_place().and_then(|()| self.wal.check_in_place());
        checked.map_err(|cause| lost_database(self.database.path(), cause))
    }
}

/// Returns the error after which the server must not commit anything more.
fn lost_database(path: &Path, cause: impl Display) -> Error {
    Error::StoreFailed(format!(
        "{cause}: find out who changes the files of {}, and start the server again on the right file",
        path.display()
    ))
}

/// Owns the only connection that writes to the database file. The locks of the files prevent other servers from opening
/// the database.
pub(in crate::store) struct SqliteWriter {
    conn: Connection,
    /// Locks of the files, which must be dropped after the connection.
    files: OpenFiles,
    clock: Arc<dyn Clock>,
    ids: IdGenerator,
    /// Last numbers that were committed before the server started.
    last_assigned: LastAssigned,
    /// Value of `PRAGMA data_version` before the server started.
    data_version: i64,
}

impl SqliteWriter {
    /// Returns the writer of an open database. Fails if the database can't be read.
    pub fn new(
        conn: Connection,
        files: OpenFiles,
        clock: Arc<dyn Clock>,
        ids: IdGenerator,
        last_assigned: LastAssigned,
    ) -> Result<Self> {
        let data_version = read_data_version(&conn)?;
        Ok(Self { conn, files, clock, ids, last_assigned, data_version })
    }

    /// Copies the write-ahead log into the database file. Fails if the files are no longer in place.
    fn complete_file(&self) -> Result<()> {
        self.files.check_in_place()?;
        mark::complete_file(&self.conn, &self.files.database)
    }
}

/// Returns the value of `PRAGMA data_version`, which changes when another connection has committed.
fn read_data_version(statements: &impl Statements) -> Result<i64> {
    let mut version = 0;
    statements.run_prepared("PRAGMA data_version", &[], &mut |statement| {
        let mut rows = statement.raw_query();
        if let Some(row) = rows.next().map_err(sql_error)? {
            version = row.get(0).map_err(sql_error)?;
        }
        Ok(())
    })?;
    Ok(version)
}

impl WriteDatabase for SqliteWriter {
    type Session<'a> = SqliteSession<'a>;

    fn session(&self) -> SqliteSession<'_> {
        SqliteSession {
            conn: &self.conn,
            files: &self.files,
            statements: KeptStatements::new(&self.conn),
            clock: self.clock.as_ref(),
            ids: &self.ids,
            committed: self.last_assigned,
            transaction: OpenTransaction::default(),
            data_version: Some(self.data_version),
            has_begun: false,
            checkpointer: Checkpointer::new(Arc::clone(&self.files.gate)),
            has_returned_space: false,
        }
    }

    fn close(self) {
        if let Err(error) = self.complete_file() {
            mark::warn_incomplete(&self.files.database, &error);
        }
    }
}

/// Runs transactions on the connection of a `SqliteWriter`.
pub(in crate::store) struct SqliteSession<'a> {
    conn: &'a Connection,
    files: &'a OpenFiles,
    statements: KeptStatements<'a>,
    clock: &'a dyn Clock,
    ids: &'a IdGenerator,
    /// Last committed numbers. The copy in memory is always current, because `check_sole_writer` fails if another
    /// program has changed the database.
    committed: LastAssigned,
    transaction: OpenTransaction,
    /// Value of `PRAGMA data_version` after the newest transaction. After a failed commit, the value is None, because
    /// SQLite may have changed the value itself.
    data_version: Option<i64>,
    /// If `begin` has opened a transaction that has not ended, the value is true. SQLite can end the transaction itself
    /// after an error.
    has_begun: bool,
    checkpointer: Checkpointer,
    /// If pages were returned since the last checkpoint, and the database file has not become smaller yet, the value is
    /// true.
    has_returned_space: bool,
}

impl SqliteSession<'_> {
    fn create_tx(&self, last_assigned: LastAssigned) -> SqliteTx<'_> {
        SqliteTx::new(&self.statements, self.clock, self.ids, Some(last_assigned))
    }

    fn run_sql(&self, sql: &'static str) -> Result<()> {
        self.statements.run_prepared(sql, &[], &mut |statement| statement.raw_execute().map(drop).map_err(sql_error))
    }

    fn try_commit(&mut self, last_assigned: LastAssigned, has_written: bool) -> Result<()> {
        if has_written {
            let tx = SqliteTx::new(&self.statements, self.clock, self.ids, Some(last_assigned));
            self.transaction.store_numbers(tx, |tx| counters::save(tx, last_assigned))?;
        }
        self.run_sql("COMMIT")?;
        // Check after the commit and before the answers: the answers must not acknowledge commits in a file that was
        // moved away before the commit.
        self.files.check_in_place()
    }

    /// Returns some unused pages to the file system. Returns whether more pages can be returned now.
    fn return_space(&mut self) -> Result<bool> {
        let can_continue = space::return_step(self.conn).map_err(sql_error)?;
        if can_continue {
            self.has_returned_space = true;
        } else if self.has_returned_space {
            // The checkpoint makes the database file smaller.
            checkpoint::checkpoint(self.conn)?;
            self.has_returned_space = false;
        }
        Ok(can_continue)
    }

    fn forget_data_version_after<T>(&mut self, result: &Result<T>) {
        if result.is_err() {
            self.data_version = None;
        }
    }

    /// Fails if another program has written to the database since the last transaction. The numbers that this server
    /// keeps in memory are then no longer right.
    fn check_sole_writer(&mut self) -> Result<()> {
        let version = read_data_version(&self.statements)?;
        if self.data_version == Some(version) {
            return Ok(());
        }
        let was_known = self.data_version.replace(version).is_some();
        let position = counters::newest_position(&mut self.create_tx(self.committed))?;
        if was_known || position != self.committed.position {
            self.data_version = None;
            return Err(lost_database(self.files.database.path(), "another program has written to it"));
        }
        Ok(())
    }
}

impl WriteSession for SqliteSession<'_> {
    fn begin<'r>(&mut self, _ahead: impl Iterator<Item = &'r ReadAhead>) -> Result<LastAssigned> {
        if let Err(error) = self.run_sql("BEGIN IMMEDIATE") {
            // After some errors, SQLite changes the value without a write of another program.
            if error != Error::StoreBusy {
                self.data_version = None;
            }
            return Err(error);
        }
        self.has_begun = true;
        self.transaction.begin(self.committed.key);
        self.check_sole_writer()?;
        Ok(self.committed)
    }

    fn run(&mut self, last_assigned: LastAssigned, body: impl FnOnce(&mut dyn Tx) -> bool) -> BodyEffects {
        let tx = SqliteTx::new(&self.statements, self.clock, self.ids, Some(last_assigned));
        self.transaction.run(tx, body)
    }

    fn set_savepoint(&mut self) -> Result<()> {
        self.transaction.set_savepoint();
        self.run_sql("SAVEPOINT body")
    }

    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()> {
        if !keeps_changes {
            self.run_sql("ROLLBACK TO body")?;
            self.transaction.roll_back_to_savepoint();
        }
        self.run_sql("RELEASE body")
    }

    fn transaction(&self) -> Transaction {
        self.transaction.transaction()
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn can_commit(&self) -> bool {
        !self.conn.is_autocommit()
    }

    fn commit(&mut self, last_assigned: LastAssigned, has_written: bool, _signals: &[Signal]) -> CommitOutcome {
        match self.try_commit(last_assigned, has_written) {
            Ok(()) => {
                self.has_begun = false;
                self.committed = last_assigned;
                self.clock.adopt(self.transaction.take_clock_step());
                CommitOutcome::Committed
            }
            Err(error) => {
                self.data_version = None;
                CommitOutcome::Failed(error)
            }
        }
    }

    fn rollback(&mut self) {
        self.transaction.roll_back();
        if self.can_commit() {
            // Ignore the error, because the next BEGIN reports a failed rollback.
            let _ = self.run_sql("ROLLBACK");
        } else if self.has_begun {
            // SQLite has rolled back the transaction after an error.
            self.data_version = None;
        }
        self.has_begun = false;
    }

    fn is_checkpoint_due(&mut self) -> bool {
        self.checkpointer.is_due()
    }

    fn checkpoint(&mut self) -> Result<()> {
        let result = self.checkpointer.run(self.conn);
        self.forget_data_version_after(&result);
        result
    }

    fn maintain(&mut self) -> Result<bool> {
        self.files.check_in_place()?;
        let result = self.return_space();
        self.forget_data_version_after(&result);
        result
    }
}
