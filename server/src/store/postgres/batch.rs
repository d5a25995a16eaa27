//! This module combines consecutive executions of one INSERT statement. Inserting many rows with one statement takes a
//! fraction of the time.

use tokio_postgres::Statement;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::values::{BoxedError, OwnedValue};

/// Maximum number of rows in one statement.
const MAX_ROWS: usize = 1_000;
/// Size of the values of a batch at which the batch is sent, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// The rows for one INSERT statement that were not sent yet.
pub(super) struct InsertBatch {
    /// The statement that inserts one row.
    pub statement: Statement,
    pub sql: &'static str,
    rows: Vec<Vec<OwnedValue>>,
    bytes: usize,
}

impl InsertBatch {
    pub fn new(sql: &'static str, statement: Statement) -> Self {
        Self { statement, sql, rows: Vec::new(), bytes: 0 }
    }

    /// Returns whether a row of a statement can be added.
    pub fn accepts(&self, sql: &'static str) -> bool {
        std::ptr::eq(self.sql, sql) && self.rows.len() < MAX_ROWS && self.bytes < MAX_BYTES
    }

    pub fn push(&mut self, row: Vec<OwnedValue>) {
        self.bytes += row.iter().map(OwnedValue::bytes).sum::<usize>();
        self.rows.push(row);
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the rows, for a statement that inserts one row at a time.
    pub fn into_rows(self) -> Vec<Vec<OwnedValue>> {
        self.rows
    }

    /// Returns the values of each column, for a statement that inserts all rows.
    pub fn into_columns(self) -> Vec<Column> {
        let mut columns: Vec<Column> =
            self.statement.params().iter().map(|ty| Column::new(ty, self.rows.len())).collect();
        for row in self.rows {
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        columns
    }
}

/// Returns the text of the statement that inserts many rows, or None if `sql` is not a plain INSERT of one row.
pub(super) fn statement_for_many(sql: &str, params: &[Type]) -> Option<String> {
    let placeholders: Vec<String> = (1..=params.len()).map(|number| format!("${number}")).collect();
    let text = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let head = text.strip_suffix(&format!("VALUES ({})", placeholders.join(", ")))?;
    if !head.starts_with("INSERT INTO ") {
        return None;
    }
    let arrays: Vec<String> = placeholders.iter().zip(params).map(|(name, ty)| format!("{name}::{ty}[]")).collect();
    Some(format!("{head}SELECT * FROM unnest({})", arrays.join(", ")))
}

/// The values of one column.
#[derive(Debug)]
pub(super) enum Column {
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Blobs(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn new(ty: &Type, rows: usize) -> Self {
        match *ty {
            Type::INT8 => Self::Ints(Vec::with_capacity(rows)),
            Type::TEXT => Self::Texts(Vec::with_capacity(rows)),
            _ => Self::Blobs(Vec::with_capacity(rows)),
        }
    }

    /// Adds a value. A value of another type becomes NULL, but the types of a statement's parameters never change.
    fn push(&mut self, value: OwnedValue) {
        match (self, value) {
            (Self::Ints(column), OwnedValue::Int(number)) => column.push(Some(number)),
            (Self::Texts(column), OwnedValue::Text(text)) => column.push(Some(text)),
            (Self::Blobs(column), OwnedValue::Blob(blob)) => column.push(Some(blob)),
            (Self::Ints(column), _) => column.push(None),
            (Self::Texts(column), _) => column.push(None),
            (Self::Blobs(column), _) => column.push(None),
        }
    }
}

impl ToSql for Column {
    fn to_sql(&self, ty: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, BoxedError> {
        match self {
            Self::Ints(column) => column.to_sql(ty, out),
            Self::Texts(column) => column.to_sql(ty, out),
            Self::Blobs(column) => column.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_insert_gets_a_statement_for_many_rows() {
        let many = statement_for_many("INSERT INTO a (x, y)\n    VALUES ($1, $2)", &[Type::INT8, Type::TEXT]);
        assert_eq!(many.unwrap(), "INSERT INTO a (x, y) SELECT * FROM unnest($1::int8[], $2::text[])");
    }

    #[test]
    fn other_statements_are_not_combined() {
        let params = [Type::INT8];
        for sql in [
            "INSERT INTO a (x) VALUES ($1) ON CONFLICT (x) DO NOTHING",
            "INSERT INTO a (x, y) VALUES ($1, 0)",
            "UPDATE a SET x = $1",
        ] {
            assert_eq!(statement_for_many(sql, &params), None, "{sql}");
        }
    }
}
