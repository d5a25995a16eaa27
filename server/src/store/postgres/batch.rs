//! This module combines executions of one INSERT statement, or of one UPDATE statement. Changing many rows with one
//! statement takes a fraction of the time.

use std::collections::BTreeSet;

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::values::{BoxedError, OwnedValue};

/// Maximum number of rows in one statement.
const MAX_ROWS: usize = 1_000;
/// Size of the values of a batch at which the batch is sent, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Tables to whose rows no other row refers. The rows of these tables can be inserted later than other rows, as long as
/// no statement reads or changes them in between.
const LEAF_TABLES: [&str; 3] = ["events", "requests", "task_attempts"];

/// The rows for statements that were not sent yet.
#[derive(Default)]
pub(super) struct PendingRows {
    batches: Vec<Batch>,
}

impl PendingRows {
    /// Returns the batch to which a row of a statement can be added.
    pub fn find_batch(&mut self, sql: &'static str, row: &[OwnedValue]) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.accepts(sql, row))
    }

    /// Takes the batches that must be sent before a statement, which may read or change their rows, or may need them.
    pub fn take_before(&mut self, sql: &'static str) -> Vec<Batch> {
        if self.batches.is_empty() {
            return Vec::new();
        }
        let table = table_of(sql);
        let is_leaf = LEAF_TABLES.contains(&table);
        if !uses_one_table(sql) || !(is_leaf || sql.starts_with("UPDATE ")) {
            return self.take();
        }
        let precedes = |batch: &mut Batch| {
            let changed = table_of(batch.sql);
            changed == table || !(batch.is_update || LEAF_TABLES.contains(&changed))
        };
        self.batches.extract_if(.., precedes).collect()
    }

    /// Adds an empty batch for a statement, and returns the batch.
    pub fn add(&mut self, sql: &'static str) -> &mut Batch {
        self.batches.push_mut(Batch::new(sql))
    }

    /// Returns the batches in the order in which they must be sent.
    pub fn take(&mut self) -> Vec<Batch> {
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

/// Returns whether the rows of a statement can be sent later. The statement inserts values, or updates the row that its
/// parameter `$1` names, and reads no rows of other tables that another statement could change in between.
pub(super) fn can_wait(sql: &str) -> bool {
    let inserts_values = sql.starts_with("INSERT ") && !sql.contains("SELECT");
    inserts_values || updates_named_row(sql)
}

/// Returns whether a statement is an UPDATE that changes different rows for different values of its parameter `$1`.
fn updates_named_row(sql: &str) -> bool {
    let Some((assignments, condition)) = sql.split_once("WHERE ") else { return false };
    if !assignments.starts_with("UPDATE ") || assignments.contains("SELECT") || !uses_one_table(sql) {
        return false;
    }
    // The attempt of a claim of the task `$1`.
    let names_attempt = condition.starts_with("key = (SELECT key FROM task_attempts WHERE task_key = $1 ");
    let words: Vec<&str> = condition.split_whitespace().collect();
    names_attempt || matches!(words.as_slice(), [_, "=", "$1"])
}

/// The rows for one INSERT or UPDATE statement that were not sent yet.
pub(super) struct Batch {
    /// The statement that changes one row.
    pub sql: &'static str,
    is_update: bool,
    /// The values of `$1` in an UPDATE statement. One statement can't update the same row twice.
    named: BTreeSet<OwnedValue>,
    rows: Vec<Vec<OwnedValue>>,
    bytes: usize,
}

impl Batch {
    fn new(sql: &'static str) -> Self {
        let is_update = sql.starts_with("UPDATE ");
        Self { sql, is_update, named: BTreeSet::new(), rows: Vec::new(), bytes: 0 }
    }

    /// Returns whether a row of a statement can be added.
    fn accepts(&self, sql: &'static str, row: &[OwnedValue]) -> bool {
        let is_same = std::ptr::eq(self.sql, sql);
        let is_known = row.first().is_some_and(|name| self.named.contains(name));
        is_same && !is_known && self.rows.len() < MAX_ROWS && self.bytes < MAX_BYTES
    }

    pub fn push(&mut self, row: Vec<OwnedValue>) {
        if self.is_update {
            self.named.extend(row.first().cloned());
        }
        self.bytes += row.iter().map(OwnedValue::bytes).sum::<usize>();
        self.rows.push(row);
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the rows, for a statement that changes one row at a time.
    pub fn into_rows(self) -> Vec<Vec<OwnedValue>> {
        self.rows
    }

    /// Returns the values of each column with the types `types`, for a statement that changes all rows.
    pub fn into_columns(self, types: &[Type]) -> Vec<Column> {
        let mut columns: Vec<Column> = types.iter().map(|ty| Column::new(ty, self.rows.len())).collect();
        for row in self.rows {
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        columns
    }
}

/// Returns the text of the statement that changes many rows, or None if `sql` is neither a plain INSERT of one row nor an
/// UPDATE of the row that `$1` names.
pub(super) fn statement_for_many(sql: &str, params: &[Type]) -> Option<String> {
    let text = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let arrays: Vec<String> = (1..).zip(params).map(|(number, ty)| format!("${number}::{ty}[]")).collect();
    let rows = format!("unnest({})", arrays.join(", "));
    if updates_named_row(sql) {
        update_many(&text, params.len(), &rows)
    } else {
        insert_many(&text, params.len(), &rows)
    }
}

fn insert_many(text: &str, params: usize, rows: &str) -> Option<String> {
    let placeholders: Vec<String> = (1..=params).map(|number| format!("${number}")).collect();
    let head = text.strip_suffix(&format!("VALUES ({})", placeholders.join(", ")))?;
    head.starts_with("INSERT INTO ").then(|| format!("{head}SELECT * FROM {rows}"))
}

fn update_many(text: &str, params: usize, rows: &str) -> Option<String> {
    let (assignments, condition) = text.split_once("WHERE ")?;
    let names: Vec<String> = (1..=params).map(|number| format!("p{number}")).collect();
    let with_columns = |part: &str| {
        // Replace `$12` before `$1`.
        let numbers = (1..=params).rev();
        numbers.fold(part.to_owned(), |part, number| part.replace(&format!("${number}"), &format!("many.p{number}")))
    };
    let assignments = with_columns(assignments);
    let condition = with_columns(condition);
    Some(format!("{assignments}FROM {rows} AS many ({}) WHERE {condition}", names.join(", ")))
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
    fn update_of_a_named_row_gets_a_statement_for_many_rows() {
        let params = [Type::INT8, Type::TEXT];
        let many = |sql| statement_for_many(sql, &params).unwrap();
        assert_eq!(
            many("UPDATE a SET x = COALESCE($2, x)\n    WHERE key = $1"),
            "UPDATE a SET x = COALESCE(many.p2, x) FROM unnest($1::int8[], $2::text[]) AS many (p1, p2) \
            WHERE key = many.p1"
        );
        let attempt = "UPDATE task_attempts SET end_time = NULL
            WHERE key = (SELECT key FROM task_attempts WHERE task_key = $1 AND lease_token = $2 LIMIT 1)";
        assert!(many(attempt).ends_with(
            "WHERE key = (SELECT key FROM task_attempts WHERE task_key = many.p1 AND lease_token = many.p2 LIMIT 1)"
        ));
        let sql = "UPDATE a SET x = $12, y = $2 WHERE key = $1";
        assert!(update_many(sql, 12, "rows").unwrap().starts_with("UPDATE a SET x = many.p12, y = many.p2 FROM rows"));
    }

    #[test]
    fn statement_never_updates_a_row_twice() {
        let sql = "UPDATE tasks SET status = $2 WHERE key = $1";
        let row = |key| vec![OwnedValue::Int(key), OwnedValue::Int(3)];
        let mut pending = PendingRows::default();
        pending.add(sql).push(row(1));
        assert!(pending.find_batch(sql, &row(2)).is_some());
        assert!(pending.find_batch(sql, &row(1)).is_none());
        assert_eq!(pending.take_before(sql).len(), 1, "the first update is sent before the second");
    }

    /// Returns the tables whose rows are sent before a statement, if rows of `events` and `task_attempts`, and updates of
    /// `tasks`, are pending.
    fn sent_before(sql: &'static str) -> Vec<&'static str> {
        let mut pending = PendingRows::default();
        pending.add("INSERT INTO events (key) VALUES ($1)");
        pending.add("INSERT INTO task_attempts (key) VALUES ($1)");
        pending.add("UPDATE tasks SET status = $2 WHERE key = $1");
        pending.take_before(sql).iter().map(|batch| table_of(batch.sql)).collect()
    }

    #[test]
    fn rows_stay_behind_statements_that_do_not_need_them() {
        let all = ["events", "task_attempts", "tasks"].as_slice();
        let cases = [
            ("UPDATE tasks SET lease_expire_time = $2 WHERE key = $1", ["tasks"].as_slice()),
            ("UPDATE runs SET status = $1 WHERE key = $2", &[]),
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
        assert!(can_wait("INSERT INTO events (key) VALUES ($1)"));
        assert!(!can_wait("INSERT INTO events (key) SELECT key FROM tasks"));
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
            "UPDATE a SET x = $2 WHERE key = $1 AND y = 1",
            "UPDATE a SET x = (SELECT x FROM a WHERE key = $1)",
            "UPDATE a SET x = $2 FROM b WHERE key = $1",
        ] {
            assert_eq!(statement_for_many(sql, &params), None, "{sql}");
        }
    }
}
