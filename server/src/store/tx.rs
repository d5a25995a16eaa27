//! `Tx`: everything that the body of a transaction can do, and helpers that collect the rows of a query.

use std::ops::ControlFlow;

use super::{Columns, Signal, SqlValue};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Binds values to the parameters `$1`, `$2` … of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::AsParam::as_param(&$value)),*] };
}
pub(crate) use params;

/// An open transaction, as its body sees it. In a read, the calls that write fail.
///
/// SQL is `&'static str`, so that no statement can be built from values.
pub trait Tx {
    /// Returns the time of this transaction.
    fn now(&self) -> Timestamp;
    /// Makes a public id.
    fn new_id(&self) -> String;
    /// Makes a lease token.
    fn new_token(&self) -> String;
    /// Takes the key for a new row. Fails in a read.
    fn next_key(&mut self) -> Result<Key>;
    /// Takes the position for a new event. Fails in a read.
    fn next_position(&mut self) -> Result<i64>;
    /// Sends a signal to waiters as soon as this transaction is committed.
    fn signal(&mut self, signal: Signal);
    /// Returns whether this transaction has changed a row.
    fn has_written(&self) -> bool;
    /// Runs a statement and returns the number of rows that it changed.
    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64>;
    /// Runs a query and passes each row to `each` until `each` breaks off.
    fn query(&mut self, sql: &'static str, params: &[SqlValue], each: Each) -> Result<()>;

    /// Runs a statement for which the number of changed rows does not matter.
    fn write(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<()> {
        self.execute(sql, params).map(drop)
    }
}

/// Handles one row of a query and says whether to continue.
pub type Each<'a> = &'a mut dyn FnMut(&mut Columns) -> Result<ControlFlow<()>>;

/// Returns the first row of a query, or None if the query finds no row.
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

/// Returns whether a query finds a row.
pub fn any(tx: &mut dyn Tx, sql: &'static str, params: &[SqlValue]) -> Result<bool> {
    Ok(first(tx, sql, params, |_| Ok(()))?.is_some())
}

/// Returns all rows of a query. Only for queries whose result is bounded by its nature or by a LIMIT.
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

/// Returns the first rows of a query, up to a limit but at least one, and whether more rows follow.
pub fn page<T>(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    limit: Limit,
    map: impl Fn(&mut Columns) -> Result<T>,
) -> Result<Page<T>> {
    let mut page = Page { rows: Vec::new(), is_last: true };
    let mut bytes = 0;
    tx.query(sql, params, &mut |row| {
        let mapped = map(row)?;
        bytes += row.bytes();
        if page.rows.len() == limit.rows || (bytes > limit.bytes && !page.rows.is_empty()) {
            page.is_last = false;
            return Ok(ControlFlow::Break(()));
        }
        page.rows.push(mapped);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

/// The maximum size of a page of rows, or of a group of calls.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Maximum number of rows or calls.
    pub rows: usize,
    /// Maximum number of bytes, as stored.
    pub bytes: usize,
}

/// A page of the rows of a query.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// No row follows this page.
    pub is_last: bool,
}
