//! This module defines the interface between the writer and a database.

use std::sync::Arc;

use super::{Signal, Transaction, Tx};
use crate::domain::Key;
use crate::error::{Error, Result};

/// Owns the connection that writes. The session borrows the connection, because the session keeps prepared statements,
/// which borrow the connection too. Therefore, two types are needed.
pub(super) trait WriteDatabase: Send + 'static {
    /// The session, which borrows the connection.
    type Session<'a>: WriteSession
    where
        Self: 'a;

    /// Returns the session with which the writer thread uses the connection. The writer calls this function once.
    fn session(&self) -> Self::Session<'_>;

    /// Closes the database, so that all commits are in one file. If this fails, the function only logs a warning,
    /// because all commits are durable. Call this function after all connections that read are closed.
    fn close(self);
}

/// Names the rows that a transaction body needs, as far as its call names them. A database across a network reads these
/// rows for all bodies of a group together.
#[derive(Debug, Clone, Default)]
pub struct ReadAhead {
    /// The id of a run.
    pub run_id: Option<Arc<str>>,
    /// The id of a task that the body ends.
    pub task_id: Option<Arc<str>>,
    /// Whether the body claims a task, of the run with the id `run_id` if there is one.
    pub claims_task: bool,
}

/// Runs the writer's transactions on a database connection, one at a time.
///
/// The writer forms groups, handles panics and decides on retries. The session contains the code for a specific
/// database. For each transaction, the writer calls `begin`, then `run` for each transaction body, and then `commit`.
/// If the writer may have to roll back a single body, the writer calls `set_savepoint` before the body and
/// `end_savepoint` after the body. If a transaction is not committed, the writer calls `rollback`. Between
/// transactions, the writer calls `is_checkpoint_due` and `checkpoint`.
pub(super) trait WriteSession {
    /// Opens a transaction. Returns the last assigned numbers that earlier transactions have committed. `ahead` names rows
    /// that the transaction bodies need. A database across a network reads these rows together with the numbers.
    fn begin<'r>(&mut self, ahead: impl Iterator<Item = &'r ReadAhead>) -> Result<LastAssigned>;

    /// Runs a transaction body in the open transaction and returns the effects of the body. `last_assigned` holds the
    /// last assigned numbers. `body` returns true on success.
    fn run(&mut self, last_assigned: LastAssigned, body: impl FnOnce(&mut dyn Tx) -> bool) -> BodyEffects;

    /// Sets the savepoint to which `end_savepoint` can roll back.
    fn set_savepoint(&mut self) -> Result<()>;

    /// Releases the savepoint that `set_savepoint` has set. If `keeps_changes` is false, first rolls back to the
    /// savepoint.
    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()>;

    /// Returns the newest transaction of the session.
    fn transaction(&self) -> Transaction;

    /// Returns whether the connection to the database works. If the value is false, the next `begin` connects again.
    fn is_connected(&self) -> bool;

    /// Returns whether the open transaction can still be committed. Returns false if the database has rolled back the
    /// whole transaction after an error, such as a full disk.
    fn can_commit(&self) -> bool;

    /// Commits the open transaction and returns the outcome of the commit. If `has_written` is true, the transaction
    /// also stores `last_assigned`, and sends `signals` to the other servers that use the database.
    fn commit(&mut self, last_assigned: LastAssigned, has_written: bool, signals: &[Signal]) -> CommitOutcome;

    /// Rolls back the open transaction. If no transaction is open, the function does nothing. If the rollback fails,
    /// the next `begin` reports the failure.
    fn rollback(&mut self);

    /// Returns whether the database should do the work of `checkpoint` soon. Call this function outside a transaction.
    fn is_checkpoint_due(&mut self) -> bool;

    /// Copies committed changes from the database's log to their final place. Call this function outside a transaction.
    /// A failure loses no commit.
    fn checkpoint(&mut self) -> Result<()>;

    /// Does a short part of the work for which no call waits: checks that the files of the database are in place, and
    /// returns unused space to the file system. Returns whether more work can be done now. Fails if the database can't
    /// be used any more. Call this function outside a transaction.
    fn maintain(&mut self) -> Result<bool>;
}

/// Holds the last position, key and claim version that a transaction has assigned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LastAssigned {
    /// Position of the newest event, or 0 if no event was ever appended.
    pub position: i64,
    /// Key of the newest row in any table, or 0 if no row was ever inserted.
    pub key: Key,
    /// Claim version of the newest change that can affect which tasks are claimable, or 0 if there was no such change.
    pub claim_version: i64,
}

/// Holds the effects of one transaction body in the open transaction.
#[derive(Debug)]
pub(super) struct BodyEffects {
    /// If the transaction body succeeded, the value is true.
    pub is_done: bool,
    /// Last assigned numbers after the transaction body ran.
    pub last_assigned: LastAssigned,
    /// If the transaction body changed a row, the value is true.
    pub has_written: bool,
    /// Signals to send to the waiters after the commit.
    pub signals: Vec<Signal>,
}

/// Specifies the outcome of a commit.
#[derive(Debug)]
pub(super) enum CommitOutcome {
    /// The transaction is durable.
    Committed,
    /// The transaction failed and changed nothing. The value is the cause. If the value is `StoreFailed`, the
    /// transaction may be durable, because the files of the database are not in place any more.
    Failed(Error),
    /// The connection to the database was lost, and the transaction changed nothing.
    Disconnected,
    /// The database's response to the commit was dropped, so the transaction may be durable or may have changed
    /// nothing. The
    /// response of an embedded database is never dropped.
    Unknown,
}
