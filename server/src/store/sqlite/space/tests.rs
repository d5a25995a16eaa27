use std::path::Path;

use super::super::{checkpoint, open_writer};
use super::*;

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// Creates and deletes rows of 20 MB.
fn fill_and_delete(conn: &Connection) {
    conn.execute_batch("CREATE TABLE filled (bytes BLOB); INSERT INTO filled VALUES (zeroblob(20000000))").unwrap();
    conn.execute_batch("DELETE FROM filled").unwrap();
}

#[test]
fn space_of_deleted_rows_is_returned_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = open_writer(&path).unwrap();
    fill_and_delete(&conn);
    checkpoint::empty_log(&conn).unwrap();
    assert!(size(&path) > 20_000_000);
    let mut steps = 0;
    while return_step(&conn).unwrap() {
        steps += 1;
    }
    assert!(steps > 5, "{steps}");
    assert!((KEPT_PAGES..KEPT_PAGES + STEP_PAGES).contains(&count_unused(&conn).unwrap()));
    checkpoint::empty_log(&conn).unwrap();
    assert!(size(&path) < 8_000_000, "{}", size(&path));
}

/// An old database keeps its space until an operator runs `runhub vacuum`.
#[test]
fn database_without_auto_vacuum_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE old (key)").unwrap();
    let conn = open_writer(&path).unwrap();
    fill_and_delete(&conn);
    assert!(!return_step(&conn).unwrap());
    assert!(count_unused(&conn).unwrap() > KEPT_PAGES + STEP_PAGES);
}
