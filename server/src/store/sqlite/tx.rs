//! This module implements `Tx` on an SQLite connection, and converts values between the store and SQLite.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Statement, ToSql};

use super::sql_error;
use super::statements::Statements;
use crate::clock::{self, Clock, IdGenerator};
use crate::domain::Key;
use crate::domain::time::{ClockStep, Timestamp};
use crate::error::{Error, Result};
use crate::store::session::LastAssigned;
use crate::store::{ClaimVersion, Columns, Row, RowHandler, Signal, SqlValue, Transaction, Tx, counters};

/// Represents the open transaction of a connection. The owner of the connection opens, commits and rolls back the
/// transaction.
pub(super) struct SqliteTx<'a> {
    statements: &'a dyn Statements,
    now: Timestamp,
    /// The step of the clock that the transaction body has requested.
    clock_step: ClockStep,
    ids: &'a IdGenerator,
    /// Last assigned numbers. If the transaction only reads, the value is None.
    last_assigned: Option<LastAssigned>,
    transaction: Transaction,
    has_written: bool,
    signals: Vec<Signal>,
}

impl<'a> SqliteTx<'a> {
    /// Creates a `Tx` for one transaction body in the open transaction. If `last_assigned` is None, the body can only
    /// read.
    pub fn new(
        statements: &'a dyn Statements,
        clock: &dyn Clock,
        ids: &'a IdGenerator,
        last_assigned: Option<LastAssigned>,
    ) -> Self {
        let now = clock.now();
        Self {
            statements,
            now,
            clock_step: ClockStep::NONE,
            ids,
            last_assigned,
            transaction: Transaction::default(),
            has_written: false,
            signals: Vec::new(),
        }
    }

    /// Returns the `Tx` as a part of the writer's transaction `transaction`, in which earlier bodies have stepped the
    /// clock by `clock_step`.
    pub fn in_transaction(self, transaction: Transaction, clock_step: ClockStep) -> Self {
        Self { transaction, now: self.now.after_step(clock_step), ..self }
    }

    /// Returns the step of the clock that the transaction body has requested.
    pub fn clock_step(&self) -> ClockStep {
        self.clock_step
    }

    /// Returns the last assigned numbers, or None if the transaction only reads.
    pub fn last_assigned(&self) -> Option<LastAssigned> {
        self.last_assigned
    }

    /// Returns the signals to send to the waiters after the commit.
    pub fn into_signals(self) -> Vec<Signal> {
        self.signals
    }

    fn require_last_assigned(&mut self) -> Result<&mut LastAssigned> {
        self.last_assigned
            .as_mut()
            .ok_or_else(|| Error::internal("a read transaction can't write: call `Store::transact` instead"))
    }
}

impl Tx for SqliteTx<'_> {
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

    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
    }

    fn has_written(&self) -> bool {
        self.has_written
    }

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        let mut changed = 0;
        self.statements.run_prepared(sql, params, &mut |statement| {
            changed = statement.raw_execute().map_err(sql_error)?;
            Ok(())
        })?;
        self.has_written |= changed > 0;
        Ok(changed as u64)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
        let has_written = &mut self.has_written;
        self.statements.run_prepared(sql, params, &mut |statement| {
            // An UPDATE … RETURNING statement runs as a query but changes rows, so a query that is not read-only counts
            // as a write.
            *has_written |= !statement.readonly();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().map_err(sql_error)? {
                if handler(&mut Columns::new(row))?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

impl Row for rusqlite::Row<'_> {
    fn value(&self, at: usize) -> Result<SqlValue<'_>> {
        match self.get_ref(at).map_err(sql_error)? {
            ValueRef::Null => Ok(SqlValue::Null),
            ValueRef::Integer(number) => Ok(SqlValue::Int(number)),
            ValueRef::Text(text) => std::str::from_utf8(text).map(SqlValue::Text).map_err(Error::internal),
            ValueRef::Blob(blob) => Ok(SqlValue::Blob(blob)),
            ValueRef::Real(number) => {
                let statement: &Statement<'_> = self.as_ref();
                let name = statement.column_name(at).map_err(sql_error)?;
                Err(Error::internal(format!(
                    "column `{name}` holds the floating-point number {number} instead of an integer: report the bug"
                )))
            }
        }
    }
}

impl ToSql for SqlValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            SqlValue::Null => ValueRef::Null,
            SqlValue::Int(number) => ValueRef::Integer(*number),
            SqlValue::Text(text) => ValueRef::Text(text.as_bytes()),
            SqlValue::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}
