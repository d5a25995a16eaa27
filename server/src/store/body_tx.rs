//! This module implements `Tx` for the transaction bodies of all databases.

use super::session::{BodyEffects, LastAssigned};
use super::{ClaimVersion, RowHandler, Signal, SqlValue, Transaction, Tx, TxCache, counters, runs};
use crate::clock::{self, Clock, IdGenerator};
use crate::domain::Key;
use crate::domain::time::{ClockStep, Timestamp};
use crate::error::{Error, Result};

/// Runs the statements of the open transaction of a connection. If a statement may have changed a row, a function sets
/// `has_written` to true, even if the function fails.
pub(super) trait RunStatements {
    /// Runs a statement and returns the number of rows that the statement changed.
    fn execute(&mut self, sql: &'static str, params: &[SqlValue], has_written: &mut bool) -> Result<u64>;
    /// Runs a query and passes each row of the result to `handler` until `handler` returns `Break`.
    fn query(
        &mut self,
        sql: &'static str,
        params: &[SqlValue],
        has_written: &mut bool,
        handler: RowHandler,
    ) -> Result<()>;

    /// Runs a statement and ignores the number of changed rows. A database across a network can report the failure of
    /// the statement later, but before the commit.
    fn write(&mut self, sql: &'static str, params: &[SqlValue], has_written: &mut bool) -> Result<()> {
        self.execute(sql, params, has_written).map(drop)
    }
}

/// Represents the open transaction of a connection. The owner of the connection opens, commits and rolls back the
/// transaction.
pub(super) struct BodyTx<'a, S> {
    statements: S,
    now: Timestamp,
    /// The step of the clock that the transaction body has requested.
    clock_step: ClockStep,
    ids: &'a IdGenerator,
    /// Last assigned numbers. If the transaction only reads, the value is None.
    last_assigned: Option<LastAssigned>,
    transaction: Transaction,
    cache: TxCache,
    has_written: bool,
    signals: Vec<Signal>,
}

impl<'a, S: RunStatements> BodyTx<'a, S> {
    /// Creates a `Tx` for one transaction body in the open transaction. If `last_assigned` is None, the body can only
    /// read.
    pub fn new(statements: S, clock: &dyn Clock, ids: &'a IdGenerator, last_assigned: Option<LastAssigned>) -> Self {
        let now = clock.now();
        Self {
            statements,
            now,
            clock_step: ClockStep::NONE,
            ids,
            last_assigned,
            transaction: Transaction::default(),
            cache: TxCache::default(),
            has_written: false,
            signals: Vec::new(),
        }
    }

    /// Returns the last assigned numbers, or None if the transaction only reads.
    pub fn last_assigned(&self) -> Option<LastAssigned> {
        self.last_assigned
    }

    fn require_last_assigned(&mut self) -> Result<&mut LastAssigned> {
        self.last_assigned
            .as_mut()
            .ok_or_else(|| Error::internal("a read transaction can't write: call `Store::transact` instead"))
    }
}

/// The state of a writer's session that its transaction bodies share. The session of each database has one.
#[derive(Debug, Default)]
pub(super) struct OpenTransaction {
    transaction: Transaction,
    /// The step of the clock that the bodies have requested.
    clock_step: ClockStep,
    cache: TxCache,
    /// The cache at the time of the savepoint.
    cache_at_savepoint: TxCache,
}

impl OpenTransaction {
    /// Begins a transaction. `committed_key` is the key of the newest committed row.
    pub fn begin(&mut self, committed_key: Key) {
        self.transaction.number += 1;
        self.transaction.committed_key = committed_key;
        self.cache = TxCache::default();
    }

    /// Runs a transaction body on `tx`, which is a `Tx` of this transaction.
    pub fn run<S: RunStatements>(&mut self, tx: BodyTx<'_, S>, body: impl FnOnce(&mut dyn Tx) -> bool) -> BodyEffects {
        let mut tx = self.join(tx);
        let assignments = tx.cache.assignments();
        let is_done = body(&mut tx);
        let has_written = tx.has_written || tx.cache.assignments() > assignments;
        if is_done {
            self.clock_step = self.clock_step.then(tx.clock_step);
        }
        self.cache = tx.cache;
        let last_assigned = tx.last_assigned.unwrap_or_default();
        BodyEffects { is_done, last_assigned, has_written, signals: tx.signals }
    }

    /// Stores the sequence numbers that the bodies have assigned, and runs `save`, which stores the last assigned numbers
    /// of the database. Call this function before the commit.
    pub fn store_numbers<S: RunStatements>(
        &mut self,
        tx: BodyTx<'_, S>,
        save: impl FnOnce(&mut dyn Tx) -> Result<()>,
    ) -> Result<()> {
        let mut tx = self.join(tx);
        runs::store_counters(&mut tx)?;
        save(&mut tx)
    }

    /// Returns `tx` with the time and the cache that earlier bodies have left.
    fn join<'a, S: RunStatements>(&mut self, tx: BodyTx<'a, S>) -> BodyTx<'a, S> {
        let cache = std::mem::take(&mut self.cache);
        BodyTx { transaction: self.transaction, now: tx.now.after_step(self.clock_step), cache, ..tx }
    }

    /// Keeps the state to which `roll_back_to_savepoint` returns.
    pub fn set_savepoint(&mut self) {
        self.cache_at_savepoint = self.cache.clone();
    }

    /// Undoes what has changed since the savepoint. Caches in memory learn of the rollback from the new number.
    pub fn roll_back_to_savepoint(&mut self) {
        self.cache = std::mem::take(&mut self.cache_at_savepoint);
        self.transaction.number += 1;
        self.transaction.rollbacks += 1;
    }

    /// Undoes the transaction.
    pub fn roll_back(&mut self) {
        self.transaction.rollbacks += 1;
        self.clock_step = ClockStep::NONE;
    }

    /// Returns the step of the clock that the committed bodies have requested.
    pub fn take_clock_step(&mut self) -> ClockStep {
        std::mem::take(&mut self.clock_step)
    }

    /// Returns the newest transaction.
    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// Returns the cache of the transaction.
    pub fn cache(&mut self) -> &mut TxCache {
        &mut self.cache
    }
}

impl<S: RunStatements> Tx for BodyTx<'_, S> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn step_clock(&mut self, step: ClockStep) -> Result<()> {
        self.require_last_assigned()?;
        self.now = self.now.after_step(step);
        self.clock_step = self.clock_step.then(step);
        Ok(())
    }

    fn new_id(&self) -> String {
        self.ids.next(self.now)
    }

    fn new_token(&self) -> String {
        clock::new_token()
    }

    fn next_key(&mut self) -> Result<Key> {
        let last_assigned = self.require_last_assigned()?;
        last_assigned.key += 1;
        Ok(last_assigned.key)
    }

    fn next_position(&mut self) -> Result<i64> {
        let last_assigned = self.require_last_assigned()?;
        last_assigned.position += 1;
        Ok(last_assigned.position)
    }

    fn next_claim_version(&mut self) -> Result<i64> {
        let last_assigned = self.require_last_assigned()?;
        last_assigned.claim_version += 1;
        Ok(last_assigned.claim_version)
    }

    fn claim_version(&mut self) -> Result<ClaimVersion> {
        let number = match self.last_assigned {
            Some(last_assigned) => last_assigned.claim_version,
            None => counters::claim_version(self)?,
        };
        Ok(ClaimVersion { number, rollbacks: self.transaction.rollbacks })
    }

    fn transaction(&self) -> Transaction {
        self.transaction
    }

    fn cache(&mut self) -> &mut TxCache {
        &mut self.cache
    }

    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
    }

    fn has_written(&self) -> bool {
        self.has_written
    }

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        self.cache.forget_tasks();
        self.statements.execute(sql, params, &mut self.has_written)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
        if !is_read(sql) {
            self.cache.forget_tasks();
        }
        self.statements.query(sql, params, &mut self.has_written, handler)
    }

    fn write(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<()> {
        self.cache.forget_tasks();
        self.statements.write(sql, params, &mut self.has_written)
    }
}

/// Returns whether a statement only reads. An UPDATE … RETURNING statement runs as a query but changes rows.
pub(super) fn is_read(sql: &str) -> bool {
    sql.starts_with("SELECT") || sql.starts_with("WITH")
}
