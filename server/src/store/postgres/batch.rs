//! This module combines executions of one INSERT statement. Inserting many rows with one statement takes a fraction of the
//! time.

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::values::{BoxedError, OwnedValue};

/// Maximum number of rows in one statement.
const MAX_ROWS: usize = 1_000;
/// Size of the values of a batch at which the batch is sent, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Tables to whose rows no other row refers. The rows of these tables can be inserted later than other rows, as long as
/// no statement reads or changes them in between.
const LEAF_TABLES: [&str; 3] = ["events", "requests", "task_attempts"];

/// The rows for INSERT statements that were not sent yet.
#[derive(Default)]
pub(super) struct PendingRows {
    batches: Vec<InsertBatch>,
}

impl PendingRows {
    /// Returns the batch to which a row of a statement can be added.
    pub fn find_batch(&mut self, sql: &'static str) -> Option<&mut InsertBatch> {
        self.batches.iter_mut().find(|batch| batch.accepts(sql))
    }

    /// Takes the batches that must be sent before a statement, which may read or change their rows, or may need them.
    pub fn take_before(&mut self, sql: &'static str) -> Vec<InsertBatch> {
        if self.batches.is_empty() {
            return Vec::new();
        }
        let table = table_of(sql);
        let is_leaf = LEAF_TABLES.contains(&table);
        if !uses_one_table(sql) || !(is_leaf || sql.starts_with("UPDATE ")) {
            return self.take();
        }
        let precedes = |batch: &mut InsertBatch| {
            let inserted = table_of(batch.sql);
            inserted == table || !LEAF_TABLES.contains(&inserted)
        };
        self.batches.extract_if(.., precedes).collect()
    }

    /// Adds an empty batch for a statement, and returns the batch.
    pub fn add(&mut self, sql: &'static str) -> &mut InsertBatch {
        self.batches.push_mut(InsertBatch::new(sql))
    }

    /// Returns the batches in the order in which they must be sent.
    pub fn take(&mut self) -> Vec<InsertBatch> {
        std::mem::take(&mut self.batches)
    }
}

/// Returns the name of the table that an INSERT or UPDATE statement changes.
fn table_of(sql: &str) -> &str {
    let mut words = sql.split_whitespace().skip_while(|word| *word == "INSERT" || *word == "INTO" || *word == "UPDATE");
    words.next().unwrap_or_default()
}

/// Returns whether a statement is an INSERT or UPDATE that uses no table except the one that it changes.
fn uses_one_table(sql: &str) -> bool {
    let table = table_of(sql);
    let mut words = sql.split_whitespace();
    if !matches!(words.next(), Some("INSERT" | "UPDATE")) {
        return false;
    }
    while let Some(word) = words.next() {
        let is_other = |next: &str| next.trim_end_matches(')') != table;
        if matches!(word, "FROM" | "JOIN") && words.next().is_none_or(is_other) {
            return false;
        }
    }
    true
}

/// Returns whether the rows of a statement can be sent later: the statement inserts values, and reads no rows that another
/// statement could change in between.
pub(super) fn inserts_values(sql: &str) -> bool {
    sql.starts_with("INSERT ") && !sql.contains("SELECT")
}

/// The rows for one INSERT statement that were not sent yet.
pub(super) struct InsertBatch {
    /// The statement that inserts one row.
    pub sql: &'static str,
    rows: Vec<Vec<OwnedValue>>,
    bytes: usize,
}

impl InsertBatch {
    fn new(sql: &'static str) -> Self {
        Self { sql, rows: Vec::new(), bytes: 0 }
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

    /// Returns the values of each column with the types `types`, for a statement that inserts all rows.
    pub fn into_columns(self, types: &[Type]) -> Vec<Column> {
        let mut columns: Vec<Column> = types.iter().map(|ty| Column::new(ty, self.rows.len())).collect();
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

    /// Returns the tables whose rows are sent before a statement, if rows of `events` and `task_attempts` are pending.
    fn sent_before(sql: &'static str) -> Vec<&'static str> {
        let mut pending = PendingRows::default();
        pending.add("INSERT INTO events (key) VALUES ($1)");
        pending.add("INSERT INTO task_attempts (key) VALUES ($1)");
        pending.take_before(sql).iter().map(|batch| table_of(batch.sql)).collect()
    }

    #[test]
    fn rows_stay_behind_statements_that_do_not_need_them() {
        let all = ["events", "task_attempts"].as_slice();
        let cases = [
            ("UPDATE tasks SET status = $1 WHERE key = $2", [].as_slice()),
            ("INSERT INTO requests (key) VALUES ($1)", &[]),
            ("UPDATE events SET kind = $1", &["events"]),
            ("UPDATE task_attempts SET a = $1 WHERE key = (SELECT key FROM task_attempts)", &["task_attempts"]),
            ("UPDATE runs SET last = (SELECT MAX(position) FROM events)", all),
            ("INSERT INTO tasks (key) VALUES ($1)", all),
            ("DELETE FROM tasks WHERE key = $1", all),
            ("SELECT key FROM tasks", all),
        ];
        for (sql, expected) in cases {
            assert_eq!(sent_before(sql), expected, "{sql}");
        }
        assert!(inserts_values("INSERT INTO events (key) VALUES ($1)"));
        assert!(!inserts_values("INSERT INTO events (key) SELECT key FROM tasks"));
        // Other rows can refer to a run.
        let mut pending = PendingRows::default();
        pending.add("INSERT INTO runs (key) VALUES ($1)");
        assert_eq!(pending.take_before("INSERT INTO events (key) VALUES ($1)").len(), 1);
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
