//! The seam between the writer and a database.

use super::{Signal, Tx};
use crate::domain::Key;
use crate::error::{Error, Result};

/// A connection that runs the writer's transactions, one at a time.
///
/// The writer forms groups, handles panics, and decides what to retry. The session knows the database. Calls come in
/// this order: `begin`; then `run` for each body, between `set_savepoint` and `end_savepoint` if the writer needs to roll
/// back single bodies; then `commit`. A transaction that is not committed ends with `rollback`.
pub(super) trait WriteSession: Send + 'static {
    /// Begins a transaction. Returns the numbers that earlier transactions have committed.
    fn begin(&mut self) -> Result<Counted>;

    /// Runs a body in the open transaction. `counted` holds the last numbers taken so far. The body returns whether it
    /// has succeeded.
    fn run(&mut self, counted: Counted, body: impl FnOnce(&mut dyn Tx) -> bool) -> Ran;

    /// Sets the savepoint to which `end_savepoint` can roll back.
    fn set_savepoint(&mut self) -> Result<()>;

    /// Removes the savepoint, after rolling back to it unless the changes made since are to be kept.
    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()>;

    /// Returns whether the open transaction can still be committed. After some errors, such as a full disk, the database
    /// has rolled back the whole transaction by itself.
    fn is_whole(&self) -> bool;

    /// Commits the open transaction. If it `has_written`, it also stores the last numbers taken.
    fn commit(&mut self, counted: Counted, has_written: bool) -> CommitOutcome;

    /// Rolls back the open transaction, if there is one. If that fails, the next `begin` reports the failure.
    fn rollback(&mut self);
}

/// The last numbers taken for new rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// The position of the newest event.
    pub position: i64,
    /// The key of the newest row.
    pub key: Key,
}

/// The effects of one body in the open transaction.
#[derive(Debug)]
pub(super) struct Ran {
    /// The body has succeeded.
    pub is_done: bool,
    /// The last numbers taken, those of this body included.
    pub counted: Counted,
    /// The body has changed a row.
    pub has_written: bool,
    /// Signals for the waiters, to be sent after the commit.
    pub signals: Vec<Signal>,
}

/// The result of a commit.
#[derive(Debug)]
pub(super) enum CommitOutcome {
    /// The transaction is durable.
    Committed,
    /// The transaction has changed nothing.
    Failed(Error),
    /// The answer of the database was lost: the transaction may be durable or may have changed nothing. Databases in
    /// this process always answer; tests use this variant, and databases across a network need it.
    #[cfg_attr(not(test), allow(dead_code))]
    Unknown,
}
