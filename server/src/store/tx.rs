//! This module defines `Tx`, which contains the operations of a transaction body, and functions that collect the rows
//! of a query.

use std::ops::ControlFlow;

use super::{Columns, Signal, SqlValue, TxCache};
use crate::domain::Key;
use crate::domain::time::{ClockStep, Timestamp};
use crate::error::Result;

/// Converts values to the parameters `$1`, `$2` … of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::AsParam::as_param(&$value)),*] };
}
pub(crate) use params;

/// Represents an open transaction for a transaction body. If the transaction only reads, the writing methods fail.
///
/// SQL text has the type `&'static str`, so that no code can build a statement from values.
pub trait Tx {
    /// Returns the time at which the transaction body started. Only `step_clock` changes the time while the body runs.
    fn now(&self) -> Timestamp;
    /// Changes the time of the server by `step`, for the rest of this transaction body and, after the commit of the
    /// transaction, for the server. Fails if the transaction only reads.
    fn step_clock(&mut self, step: ClockStep) -> Result<()>;
    /// Returns a new public id.
    fn new_id(&self) -> String;
    /// Returns a new lease token.
    fn new_token(&self) -> String;
    /// Assigns the key for a new row. Fails if the transaction only reads.
    fn next_key(&mut self) -> Result<Key>;
    /// Assigns the position for a new event. Fails if the transaction only reads.
    fn next_position(&mut self) -> Result<i64>;
    /// Assigns the claim version for a change that can affect which tasks are claimable. After a rollback, the claim
    /// version is assigned again. Fails if the transaction only reads.
    fn next_claim_version(&mut self) -> Result<i64>;
    /// Returns the claim version of the newest change that this transaction sees.
    fn claim_version(&mut self) -> Result<ClaimVersion>;
    /// Returns the writer's open transaction, which all transaction bodies of a group share. A transaction that only
    /// reads returns the default value.
    fn transaction(&self) -> Transaction;
    /// Returns the cache of the runs that the transaction has read.
    fn cache(&mut self) -> &mut TxCache;
    /// Sends a signal to the waiters after the commit of this transaction.
    fn signal(&mut self, signal: Signal);
    /// Returns whether the transaction body has changed a row.
    fn has_written(&self) -> bool;
    /// Runs a statement and returns the number of rows that the statement changed.
    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64>;
    /// Runs a query and passes each row of the result to `handler` until `handler` returns `Break`.
    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()>;

    /// Runs a statement and ignores the number of changed rows.
    fn write(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<()> {
        self.execute(sql, params).map(drop)
    }
}

/// Expands to the methods of `Tx` that run no statement, for a `Tx` of a test that wraps another one in its field `tx`.
#[cfg(test)]
macro_rules! delegate_state {
    () => {
        fn now(&self) -> $crate::domain::time::Timestamp {
            self.tx.now()
        }

        fn step_clock(&mut self, step: $crate::domain::time::ClockStep) -> $crate::error::Result<()> {
            self.tx.step_clock(step)
        }

        fn new_id(&self) -> String {
            self.tx.new_id()
        }

        fn new_token(&self) -> String {
            self.tx.new_token()
        }

        fn next_key(&mut self) -> $crate::error::Result<$crate::domain::Key> {
            self.tx.next_key()
        }

        fn next_position(&mut self) -> $crate::error::Result<i64> {
            self.tx.next_position()
        }

        fn next_claim_version(&mut self) -> $crate::error::Result<i64> {
            self.tx.next_claim_version()
        }

        fn claim_version(&mut self) -> $crate::error::Result<$crate::store::ClaimVersion> {
            self.tx.claim_version()
        }

        fn transaction(&self) -> $crate::store::Transaction {
            self.tx.transaction()
        }

        fn cache(&mut self) -> &mut $crate::store::TxCache {
            self.tx.cache()
        }

        fn signal(&mut self, signal: $crate::store::Signal) {
            self.tx.signal(signal);
        }

        fn has_written(&self) -> bool {
            self.tx.has_written()
        }
    };
}
#[cfg(test)]
pub(crate) use delegate_state;

/// Handles one row of a query and returns whether to continue with the next row.
pub type RowHandler<'a> = &'a mut dyn FnMut(&mut Columns) -> Result<ControlFlow<()>>;

/// Returns the first row of a query, or None if the query returns no row.
pub fn first<T>(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    map: impl Fn(&mut Columns) -> Result<T>,
) -> Result<Option<T>> {
    let mut found = None;
    tx.query(sql, params, &mut |row| {
        found = Some(map(row)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Returns whether a query returns at least one row.
pub fn any(tx: &mut dyn Tx, sql: &'static str, params: &[SqlValue]) -> Result<bool> {
    Ok(first(tx, sql, params, |_| Ok(()))?.is_some())
}

/// Returns all rows of a query. The query must have a LIMIT or a bounded result, because all rows are held in memory.
pub fn all<T>(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    map: impl Fn(&mut Columns) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    tx.query(sql, params, &mut |row| {
        rows.push(map(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// Identifies a transaction of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// Number of the transaction. The number grows with each transaction and with each rollback to a savepoint.
    pub number: u64,
    /// Number of times that the writer has rolled back a transaction, completely or to a savepoint.
    pub rollbacks: u64,
    /// Key of the newest row that was committed before this transaction. After a rollback, larger keys are assigned
    /// again, possibly by another server. Therefore, a cache that outlives the transaction must not contain larger keys.
    pub committed_key: Key,
}

/// A transaction that only reads sees only committed keys.
impl Default for Transaction {
    fn default() -> Self {
        Self { number: 0, rollbacks: 0, committed_key: Key::MAX }
    }
}

/// Identifies a state of the store in which the same tasks are claimable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimVersion {
    /// Claim version of the newest change that can affect which tasks are claimable.
    pub number: i64,
    /// Number of rollbacks of this server's writer. After a rollback, a claim version is assigned again.
    pub rollbacks: u64,
}

/// Converts a maximum number of rows to the parameter of a LIMIT clause.
pub fn row_limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A position in the rows of a table in the order of their claim versions. The key breaks ties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct VersionCursor {
    pub version: i64,
    pub key: Key,
}

impl VersionCursor {
    /// Returns the cursor after all rows with the version `version`.
    pub fn after(version: i64) -> Self {
        Self { version, key: Key::MAX }
    }
}
