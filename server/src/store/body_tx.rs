//! This module implements `Tx` for the transaction bodies of all databases.

use super::session::{BodyEffects, LastAssigned};
use super::{ClaimVersion, RowHandler, Signal, SqlValue, Transaction, Tx, TxCache, counters};
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

/// Holds what a transaction body leaves behind in the open transaction.
pub(super) struct RanBody {
    pub effects: BodyEffects,
    /// The step of the clock that the body has requested.
    pub clock_step: ClockStep,
    pub cache: TxCache,
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

    /// Returns the `Tx` as a part of the writer's transaction `transaction`, in which earlier bodies have stepped the
    /// clock by `clock_step`, and have left `cache`.
    pub fn in_transaction(self, transaction: Transaction, clock_step: ClockStep, cache: TxCache) -> Self {
        Self { transaction, now: self.now.after_step(clock_step), cache, ..self }
    }

    /// Runs a transaction body.
    pub fn run(mut self, body: impl FnOnce(&mut dyn Tx) -> bool) -> RanBody {
        let assignments = self.cache.assignments();
        let is_done = body(&mut self);
        let has_written = self.has_written || self.cache.assignments() > assignments;
        let clock_step = if is_done { self.clock_step } else { ClockStep::NONE };
        let last_assigned = self.last_assigned.unwrap_or_default();
        let effects = BodyEffects { is_done, last_assigned, has_written, signals: self.signals };
        RanBody { effects, clock_step, cache: self.cache }
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
        self.statements.execute(sql, params, &mut self.has_written)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
        self.statements.query(sql, params, &mut self.has_written, handler)
    }

    fn write(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<()> {
        self.statements.write(sql, params, &mut self.has_written)
    }
}
