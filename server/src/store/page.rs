//! This module reads pages of rows.

use std::ops::ControlFlow;

use super::portion::Portion;
use super::{Columns, SqlValue, Tx, row_limit};
use crate::error::Result;

/// Limits the size of a page of rows or of a group of calls.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Maximum number of rows on a page, or of calls in a group.
    pub rows: usize,
    /// Maximum total size in bytes of the rows on a page, or of the requests in a group.
    pub bytes: usize,
}

/// Holds a page of the rows of a query.
#[derive(Debug)]
pub struct Page<T> {
    /// Rows of the page, in the order of the query.
    pub rows: Vec<T>,
    /// If no row follows this page, the value is true.
    pub is_last: bool,
}

/// Number of rows that the first statement of a page reads.
const FIRST_PORTION: usize = 16;
/// Maximum number of rows that one statement of a page reads.
const MAX_PORTION: usize = 256;

/// Returns the first page of the rows of a query. The page stays within `limit`. If the first row alone exceeds
/// `limit.bytes`, the page contains only the first row. The last two parameters of the query must be the LIMIT and the
/// OFFSET, which the function appends to `params`. The function reads the rows in portions.
pub fn page<T>(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    limit: Limit,
    map: impl Fn(&mut Columns) -> Result<T>,
) -> Result<Page<T>> {
    let portion = Portion::new(FIRST_PORTION, MAX_PORTION);
    let mut reading = Reading { page: Page { rows: Vec::new(), is_last: true }, limit, bytes: 0, portion };
    loop {
        let offset = reading.page.rows.len();
        // One row more tells whether the page is full, and whether the page is the last page.
        let rows = (reading.portion.rows() + 1).min(limit.rows.saturating_add(1) - offset);
        let range = [SqlValue::Int(row_limit(rows)), SqlValue::Int(row_limit(offset))];
        let params: Vec<SqlValue> = params.iter().copied().chain(range).collect();
        tx.query(sql, &params, &mut |row| reading.add(row, &map))?;
        if !reading.page.is_last || reading.page.rows.len() - offset < rows {
            return Ok(reading.page);
        }
        reading.portion.grow(limit.bytes.saturating_sub(reading.bytes));
    }
}

/// A page whose rows are being read.
struct Reading<T> {
    page: Page<T>,
    limit: Limit,
    /// Total size of the rows, in bytes.
    bytes: usize,
    portion: Portion,
}

impl<T> Reading<T> {
    /// Adds a row, unless the page is full.
    fn add(&mut self, row: &mut Columns, map: &impl Fn(&mut Columns) -> Result<T>) -> Result<ControlFlow<()>> {
        let mapped = map(row)?;
        self.bytes += row.bytes();
        self.portion.record(row.bytes());
        if self.page.rows.len() == self.limit.rows || (self.bytes > self.limit.bytes && !self.page.rows.is_empty()) {
            self.page.is_last = false;
            return Ok(ControlFlow::Break(()));
        }
        self.page.rows.push(mapped);
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{RowHandler, delegate_state, params, sqlite_plans};

    const ROWS: i64 = 1_000;

    /// Rows with a number and a text of `$1` bytes, or of 100 times as many bytes from the row `$2` on.
    const NUMBERED: &str = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 1000)
        SELECT n, SUBSTR(HEX(ZEROBLOB(50000)), 1, CASE WHEN n < $2 THEN $1 ELSE 100 * $1 END) FROM numbers
        ORDER BY n LIMIT $3 OFFSET $4";

    /// A transaction that counts the rows that each statement asks for.
    struct CountingTx<'a> {
        tx: &'a mut dyn Tx,
        portions: Vec<i64>,
    }

    impl Tx for CountingTx<'_> {
        delegate_state!();

        fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
            self.tx.execute(sql, params)
        }

        fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
            if let [.., SqlValue::Int(rows), SqlValue::Int(_)] = params {
                self.portions.push(*rows);
            }
            self.tx.query(sql, params, handler)
        }
    }

    /// Reads a page of rows that have `small` bytes, or 100 times as many from the row `large_from` on. Returns the numbers
    /// of the rows, whether the page is the last page, and the number of rows that each statement asked for.
    fn read(small: i64, large_from: i64, limit: Limit) -> (Vec<i64>, bool, Vec<i64>) {
        let mut found = None;
        let folder = tempfile::tempdir().unwrap();
        sqlite_plans::explain(&folder.path().join("db"), &SystemClock::new(), |tx| {
            let mut tx = CountingTx { tx, portions: Vec::new() };
            let page = page(&mut tx, NUMBERED, params![small, large_from], limit, |row| {
                let number: i64 = row.take()?;
                let _text: String = row.take()?;
                Ok(number)
            })?;
            found = Some((page.rows, page.is_last, tx.portions));
            Ok(())
        });
        found.unwrap()
    }

    #[test]
    fn page_ends_at_its_limit_of_rows_or_at_the_last_row() {
        for rows in [0, 1, 15, 16, 17, 80, 81, 999] {
            let (numbers, is_last, portions) = read(1, ROWS + 1, Limit { rows, bytes: 1 << 20 });
            assert_eq!((numbers, is_last), ((1..=rows as i64).collect(), false), "{rows}");
            assert!(portions.len() <= 6, "{portions:?}");
        }
        for rows in [1_000, 1_001, usize::MAX] {
            let (numbers, is_last, _) = read(1, ROWS + 1, Limit { rows, bytes: 1 << 20 });
            assert_eq!((numbers.len(), is_last), (1_000, true), "{rows}");
        }
    }

    #[test]
    fn large_rows_are_read_in_small_portions() {
        // A row has 8 bytes for the number besides the text.
        let (numbers, is_last, portions) = read(992, ROWS + 1, Limit { rows: 500, bytes: 30_000 });
        assert_eq!((numbers.len(), is_last, portions), (30, false, vec![17, 14]));
        let (numbers, is_last, portions) = read(992, 20, Limit { rows: 500, bytes: 50_000 });
        assert_eq!((numbers.len(), is_last, portions), (19, false, vec![17, 34]));
    }

    #[test]
    fn row_larger_than_the_limit_is_a_page() {
        let (numbers, is_last, portions) = read(992, 1, Limit { rows: 500, bytes: 1_000 });
        assert_eq!((numbers, is_last, portions), (vec![1], false, vec![17]));
    }
}
