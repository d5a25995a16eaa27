//! A database as text, to check that nothing has changed.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// Returns every row of every table.
pub fn dump(db: &Path) -> Vec<String> {
    let conn = open(db);
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let tables: Vec<String> =
        conn.prepare(names).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    tables.iter().flat_map(|table| rows(&conn, table)).collect()
}

fn rows(conn: &Connection, table: &str) -> Vec<String> {
    let mut statement = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns = statement.column_count();
    let row = statement.query_map([], |row| {
        let values: Vec<String> = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect();
        Ok(format!("{table}: {}", values.join(" | ")))
    });
    row.unwrap().map(Result::unwrap).collect()
}

/// Returns the result of SQLite's own integrity check.
pub fn integrity(db: &Path) -> String {
    open(db).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

fn open(db: &Path) -> Connection {
    Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}
