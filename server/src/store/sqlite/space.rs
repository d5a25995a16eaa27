//! This module returns the space of deleted rows to the file system, in small steps, so that no call waits longer than
//! for one step.

use rusqlite::Connection;

/// Number of unused pages that stay in the database file (4 MiB), because the next rows need them soon.
const KEPT_PAGES: i64 = 1_024;

/// Number of pages that one step returns (1 MiB). The writer can't commit during a step.
const STEP_PAGES: i64 = 256;

/// The statement of a step. SQLite returns one page for each row of the result.
const STEP: &str = "PRAGMA incremental_vacuum(256)";

/// Lets a new database return unused pages. Changes nothing in an existing database, which only `runhub vacuum` can
/// convert.
pub fn prepare_new(conn: &Connection) -> rusqlite::Result<()> {
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
    // In an existing database, the statement would write, and would fail on a full disk.
    if pages == 0 { conn.pragma_update(None, "auto_vacuum", "INCREMENTAL") } else { Ok(()) }
}

/// Returns up to `STEP_PAGES` unused pages, in one transaction, and returns whether another step can return pages. The
/// file becomes smaller at the next checkpoint. A database that was created without incremental auto_vacuum keeps its
/// pages until an operator runs `runhub vacuum`.
pub fn return_step(conn: &Connection) -> rusqlite::Result<bool> {
    let before = count_unused(conn)?;
    if before < KEPT_PAGES + STEP_PAGES || !can_return(conn)? {
        return Ok(false);
    }
    let mut statement = conn.prepare_cached(STEP)?;
    let mut pages = statement.query([])?;
    while pages.next()?.is_some() {}
    let after = count_unused(conn)?;
    Ok(after < before && after >= KEPT_PAGES + STEP_PAGES)
}

fn count_unused(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))
}

/// Returns whether the database has incremental auto_vacuum, which is 2.
fn can_return(conn: &Connection) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached("PRAGMA auto_vacuum")?.query_row([], |row| row.get::<_, i64>(0))? == 2)
}

#[cfg(test)]
mod tests;
