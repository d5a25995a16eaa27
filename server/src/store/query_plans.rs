//! This module records the statements that a transaction body runs, and finds slow steps in their query plans. Only tests
//! use the module.

use std::collections::{BTreeMap, BTreeSet};

use super::tx::delegate_state;
use super::{RowHandler, SqlValue, Tx};
use crate::error::Result;

/// Maps each statement to the steps of the statement's query plan.
pub type Plans = BTreeMap<&'static str, Vec<String>>;

/// Describes a slow step of a query plan that is acceptable in one statement. A slow step visits more rows than the
/// step returns, or sorts the rows.
pub(super) struct Exception {
    /// Part of the SQL text that identifies the statement.
    pub statement: &'static str,
    /// Start of the step's text.
    pub step: &'static str,
    pub reason: &'static str,
}

/// Returns the statements whose query plan contains one of the words `slow` in a step that `exceptions` does not list.
///
/// # Panics
/// Panics if an exception applies to no statement, because an unused exception must be removed.
pub(super) fn find_slow_statements<'a>(
    plans: &'a Plans,
    exceptions: &[Exception],
    slow: &[&str],
) -> Vec<(&'static str, &'a [String])> {
    for Exception { statement, step, reason } in exceptions {
        let applies = |(sql, steps): (&&str, &Vec<String>)| {
            sql.contains(statement) && steps.iter().any(|one| one.starts_with(step))
        };
        assert!(plans.iter().any(applies), "{statement}: {step}: {reason}");
    }
    let is_exception = |sql: &str, step: &str| {
        exceptions.iter().any(|other| sql.contains(other.statement) && step.starts_with(other.step))
    };
    let is_slow = |step: &str| slow.iter().any(|word| step.contains(word));
    let slow = plans.iter().filter(|(sql, steps)| steps.iter().any(|step| is_slow(step) && !is_exception(sql, step)));
    slow.map(|(sql, steps)| (*sql, steps.as_slice())).collect()
}

/// Records the statements that run in a transaction.
pub(super) struct RecordingTx<'a> {
    tx: &'a mut dyn Tx,
    statements: BTreeSet<&'static str>,
}

impl<'a> RecordingTx<'a> {
    /// Runs a transaction body, and returns the statements that it ran.
    pub fn record(tx: &'a mut dyn Tx, body: impl FnOnce(&mut dyn Tx) -> Result<()>) -> BTreeSet<&'static str> {
        let mut recording = RecordingTx { tx, statements: BTreeSet::new() };
        body(&mut recording).unwrap();
        recording.statements
    }
}

impl Tx for RecordingTx<'_> {
    delegate_state!();

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        self.statements.insert(sql);
        self.tx.execute(sql, params)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
        self.statements.insert(sql);
        self.tx.query(sql, params, handler)
    }

    fn write(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<()> {
        self.statements.insert(sql);
        self.tx.write(sql, params)
    }
}
