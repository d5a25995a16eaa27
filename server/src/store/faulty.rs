//! A test double: a writing session whose database fails on demand.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use super::session::{CommitOutcome, Counted, Ran, WriteSession};
use super::{Each, Signal, SqlValue, Tx};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// How the database fails, until another fault or none is set.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A commit waits twice at the barrier: when it has begun, and until it may succeed.
    SlowCommit(Arc<Barrier>),
    /// The disk is full: each statement that writes fails, and the database rolls back the transaction.
    FullDisk,
    /// The disk becomes full during a commit.
    FullDiskAtCommit,
    /// Every statement fails.
    Broken,
    /// A commit succeeds, and its answer is lost.
    LostSuccess,
    /// A commit fails, and its answer is lost.
    LostFailure,
}

/// Sets the fault of a `Faulty` session while the writer owns the session.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    /// Makes the database fail from now on.
    pub fn set(&self, fault: Fault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Repairs the database.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails if no statement can succeed now.
    fn check_statement(&self) -> Result<()> {
        match self.get() {
            Some(Fault::Broken) => Err(broken()),
            _ => Ok(()),
        }
    }
}

/// The error of `FullDisk` and `FullDiskAtCommit`.
pub fn full_disk() -> Error {
    Error::internal("the disk is full")
}

/// The error of `Broken`.
pub fn broken() -> Error {
    Error::internal("the database is broken")
}

/// A session around another one. Without a fault it does the same as that one.
pub(super) struct Faulty<S> {
    inner: S,
    faults: Faults,
    /// The database has rolled back the open transaction.
    is_rolled_back: bool,
}

impl<S> Faulty<S> {
    pub fn new(inner: S, faults: Faults) -> Self {
        Self { inner, faults, is_rolled_back: false }
    }
}

impl<S: WriteSession> WriteSession for Faulty<S> {
    fn begin(&mut self) -> Result<Counted> {
        self.faults.check_statement()?;
        self.inner.begin()
    }

    fn run(&mut self, counted: Counted, body: impl FnOnce(&mut dyn Tx) -> bool) -> Ran {
        let faults = &self.faults;
        let is_rolled_back = &mut self.is_rolled_back;
        self.inner.run(counted, |tx| body(&mut FaultyTx { tx, faults, is_rolled_back }))
    }

    fn set_savepoint(&mut self) -> Result<()> {
        self.faults.check_statement()?;
        self.inner.set_savepoint()
    }

    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()> {
        self.faults.check_statement()?;
        self.inner.end_savepoint(keeps_changes)
    }

    fn is_whole(&self) -> bool {
        !self.is_rolled_back && self.inner.is_whole()
    }

    fn commit(&mut self, counted: Counted, has_written: bool) -> CommitOutcome {
        match self.faults.get() {
            None | Some(Fault::FullDisk) => self.inner.commit(counted, has_written),
            Some(Fault::SlowCommit(barrier)) => {
                barrier.wait();
                barrier.wait();
                self.inner.commit(counted, has_written)
            }
            Some(Fault::FullDiskAtCommit) => CommitOutcome::Failed(full_disk()),
            Some(Fault::Broken) => CommitOutcome::Failed(broken()),
            Some(Fault::LostSuccess) => {
                self.inner.commit(counted, has_written);
                CommitOutcome::Unknown
            }
            Some(Fault::LostFailure) => {
                self.inner.rollback();
                CommitOutcome::Unknown
            }
        }
    }

    fn rollback(&mut self) {
        self.is_rolled_back = false;
        self.inner.rollback();
    }
}

struct FaultyTx<'a> {
    tx: &'a mut dyn Tx,
    faults: &'a Faults,
    is_rolled_back: &'a mut bool,
}

impl FaultyTx<'_> {
    fn check_write(&mut self) -> Result<()> {
        if let Some(Fault::FullDisk) = self.faults.get() {
            *self.is_rolled_back = true;
            return Err(full_disk());
        }
        self.faults.check_statement()
    }
}

impl Tx for FaultyTx<'_> {
    fn now(&self) -> Timestamp {
        self.tx.now()
    }

    fn new_id(&self) -> String {
        self.tx.new_id()
    }

    fn new_token(&self) -> String {
        self.tx.new_token()
    }

    fn next_key(&mut self) -> Result<Key> {
        self.tx.next_key()
    }

    fn next_position(&mut self) -> Result<i64> {
        self.tx.next_position()
    }

    fn signal(&mut self, signal: Signal) {
        self.tx.signal(signal);
    }

    fn has_written(&self) -> bool {
        self.tx.has_written()
    }

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        self.check_write()?;
        self.tx.execute(sql, params)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], each: Each) -> Result<()> {
        self.faults.check_statement()?;
        self.tx.query(sql, params, each)
    }
}
