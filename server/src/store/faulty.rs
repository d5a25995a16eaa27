//! This module lets tests inject faults into the database session of the writer.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};

use super::session::{BodyEffects, CommitOutcome, LastAssigned, ReadAhead, WriteDatabase, WriteSession};
use super::tx::delegate_state;
use super::{Listener, RowHandler, Signal, SqlValue, Store, Transaction, Tx};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// Specifies how the test database fails. The failure lasts until a test sets another fault or clears the fault.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Each commit waits twice at the barrier that this variant holds. The first wait tells the test that the commit
    /// has started. The second wait holds the commit until the test releases the commit.
    SlowCommit(Arc<Barrier>),
    /// Each checkpoint waits at the barrier that this variant holds, until the test also waits at the barrier.
    SlowCheckpoint(Arc<Barrier>),
    /// Another program has locked the database. No transaction can begin.
    Locked,
    /// The disk is full. Each writing statement fails, and the database rolls back the transaction.
    FullDisk,
    /// The disk is full at commit time. Statements succeed, but each commit fails.
    FullDiskAtCommit,
    /// The disk is full at the checkpoint. Commits succeed.
    FullDiskAtCheckpoint,
    /// Every statement and every commit fails.
    Broken,
    /// The operating system can't access the database file. Every statement and every commit fails.
    IoError,
    /// The operating system can't write the database file at the checkpoint. Commits succeed.
    IoErrorAtCheckpoint,
    /// The session panics at each commit, outside of a transaction body.
    PanicAtCommit,
    /// Each commit succeeds, but the database's response to the commit is dropped.
    LostSuccess,
    /// Each commit fails, and the database's response to the commit is dropped.
    LostFailure,
}

/// A step of a `FaultySession`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The writer has called `commit`.
    Commit,
    /// The writer has called `checkpoint`.
    Checkpoint,
}

#[derive(Debug, Default)]
struct Steps {
    taken: Vec<Step>,
    /// If the session reports that a checkpoint is due, the value is true. A checkpoint sets the value to false.
    is_checkpoint_due: bool,
}

/// Sets and clears the fault of a `FaultySession`, and observes the session, while the writer owns the session.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    fault: Arc<Mutex<Option<Fault>>>,
    steps: Arc<Mutex<Steps>>,
    /// Number of statements that the fault `Broken` has failed.
    failures: Arc<AtomicUsize>,
}

impl Faults {
    /// Makes the database fail with `fault` until a test replaces or clears the fault.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Clears the fault, so that the database works again.
    pub fn clear(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes the session report that a checkpoint is due, until the next checkpoint.
    pub fn make_checkpoint_due(&self) {
        self.lock_steps().is_checkpoint_due = true;
    }

    /// Returns and forgets the steps that the session has taken.
    pub fn take_steps(&self) -> Vec<Step> {
        std::mem::take(&mut self.lock_steps().taken)
    }

    /// Returns the number of statements that the fault `Broken` has failed.
    pub fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    fn lock_steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns an error if the current fault makes every statement fail.
    fn check_statement(&self) -> Result<()> {
        match self.get() {
            Some(Fault::Broken) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(broken_database_error())
            }
            Some(Fault::IoError) => Err(io_error()),
            _ => Ok(()),
        }
    }
}

/// Opens a database whose writer can fail. Returns the store and the `Faults` that control the writer.
pub fn open(path: &Path, clock: Arc<dyn Clock>, listener: Listener) -> (Store, Faults) {
    let faults = Faults::default();
    let wrapped = faults.clone();
    let store = Store::open_with(path, clock, listener, |database| FaultyDatabase::new(database, wrapped)).unwrap();
    (store, faults)
}

/// Returns the error that the faults `FullDisk`, `FullDiskAtCommit` and `FullDiskAtCheckpoint` cause.
pub fn full_disk_error() -> Error {
    Error::StoreFull
}

/// Returns the error that the faults `IoError` and `IoErrorAtCheckpoint` cause.
pub fn io_error() -> Error {
    Error::StoreFailed("the disk of the test database fails: clear the fault with `Faults::clear`".into())
}

/// Returns the error that the fault `Broken` causes.
pub fn broken_database_error() -> Error {
    Error::internal("the test database is broken, so every statement fails: clear the fault with `Faults::clear`")
}

/// Wraps a writing connection and injects faults into its session.
pub(super) struct FaultyDatabase<D> {
    inner: D,
    faults: Faults,
}

impl<D> FaultyDatabase<D> {
    pub fn new(inner: D, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl<D: WriteDatabase> WriteDatabase for FaultyDatabase<D> {
    type Session<'a> = FaultySession<D::Session<'a>>;

    fn session(&self) -> Self::Session<'_> {
        FaultySession { inner: self.inner.session(), faults: self.faults.clone(), is_rolled_back: false }
    }

    fn close(self) {
        self.inner.close();
    }
}

/// Wraps a writing session and injects faults. If no fault is set, the wrapped session handles every call unchanged.
pub(super) struct FaultySession<S> {
    inner: S,
    faults: Faults,
    /// If a `FullDisk` fault has rolled back the open transaction, the value is true.
    is_rolled_back: bool,
}

impl<S: WriteSession> WriteSession for FaultySession<S> {
    fn begin<'r>(&mut self, ahead: impl Iterator<Item = &'r ReadAhead>) -> Result<LastAssigned> {
        if let Some(Fault::Locked) = self.faults.get() {
            return Err(Error::StoreBusy);
        }
        self.faults.check_statement()?;
        self.inner.begin(ahead)
    }

    fn run(&mut self, last_assigned: LastAssigned, body: impl FnOnce(&mut dyn Tx) -> bool) -> BodyEffects {
        let faults = &self.faults;
        let is_rolled_back = &mut self.is_rolled_back;
        self.inner.run(last_assigned, |tx| body(&mut FaultyTx { tx, faults, is_rolled_back }))
    }

    fn set_savepoint(&mut self) -> Result<()> {
        self.faults.check_statement()?;
        self.inner.set_savepoint()
    }

    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()> {
        self.faults.check_statement()?;
        self.inner.end_savepoint(keeps_changes)
    }

    fn transaction(&self) -> Transaction {
        self.inner.transaction()
    }

    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    fn can_commit(&self) -> bool {
        !self.is_rolled_back && self.inner.can_commit()
    }

    fn commit(&mut self, last_assigned: LastAssigned, has_written: bool, signals: &[Signal]) -> CommitOutcome {
        self.faults.lock_steps().taken.push(Step::Commit);
        match self.faults.get() {
            None
            | Some(
                Fault::FullDisk
                | Fault::Locked
                | Fault::SlowCheckpoint(_)
                | Fault::FullDiskAtCheckpoint
                | Fault::IoErrorAtCheckpoint,
            ) => self.inner.commit(last_assigned, has_written, signals),
            Some(Fault::SlowCommit(barrier)) => {
                barrier.wait();
                barrier.wait();
                self.inner.commit(last_assigned, has_written, signals)
            }
            Some(Fault::FullDiskAtCommit) => CommitOutcome::Failed(full_disk_error()),
            Some(Fault::Broken) => CommitOutcome::Failed(broken_database_error()),
            Some(Fault::IoError) => CommitOutcome::Failed(io_error()),
            Some(Fault::PanicAtCommit) => panic!("the session of this test panics on purpose"),
            Some(Fault::LostSuccess) => {
                self.inner.commit(last_assigned, has_written, signals);
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

    fn is_checkpoint_due(&mut self) -> bool {
        self.faults.lock_steps().is_checkpoint_due || self.inner.is_checkpoint_due()
    }

    fn checkpoint(&mut self) -> Result<()> {
        match self.faults.get() {
            Some(Fault::SlowCheckpoint(barrier)) => drop(barrier.wait()),
            Some(Fault::FullDiskAtCheckpoint) => {
                self.faults.lock_steps().taken.push(Step::Checkpoint);
                return Err(full_disk_error());
            }
            Some(Fault::IoErrorAtCheckpoint) => return Err(io_error()),
            _ => {}
        }
        let mut steps = self.faults.lock_steps();
        steps.is_checkpoint_due = false;
        steps.taken.push(Step::Checkpoint);
        drop(steps);
        self.inner.checkpoint()
    }

    fn maintain(&mut self) -> Result<bool> {
        self.inner.maintain()
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
            return Err(full_disk_error());
        }
        self.faults.check_statement()
    }
}

impl Tx for FaultyTx<'_> {
    delegate_state!();

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        self.check_write()?;
        self.tx.execute(sql, params)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
        self.faults.check_statement()?;
        self.tx.query(sql, params, handler)
    }
}
