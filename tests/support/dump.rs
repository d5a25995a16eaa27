//! A database as text, to check that nothing has changed.

use std::path::Path;

use super::database::{TestDatabase, open_to_read};

/// Returns every row of every table.
pub fn dump(db: impl Into<TestDatabase>) -> Vec<String> {
    let database = db.into();
    let tables = database.tables();
    tables.iter().flat_map(|table| rows(&database, table)).collect()
}

fn rows(database: &TestDatabase, table: &str) -> Vec<String> {
    let rows = database.query(&format!("SELECT * FROM {table}"));
    let as_text = |row: Vec<Option<String>>| {
        let values: Vec<String> = row.into_iter().map(|value| format!("{value:?}")).collect();
        format!("{table}: {}", values.join(" | "))
    };
    rows.into_iter().map(as_text).collect()
}

/// Returns the result of SQLite's own integrity check.
pub fn integrity(db: &Path) -> String {
    open_to_read(db).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}
