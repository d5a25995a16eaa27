//! This module copies a database into a new file, page by page, and checks the copy.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::super::header;
use super::database::ConnectedDatabase;
use super::{Control, MaintenanceError, Progress};
use crate::store::counters::LogEnd;

/// Number of pages that one step copies: 1 MiB with the page size of Runhub's databases (4 KiB). After each step, the
/// copy can be interrupted.
const STEP_PAGES: i32 = 256;

/// Copies a database into the empty file `target`, and returns the end of the copied log. The copy contains every write
/// that was committed before the call. Fails if the source is not a database of Runhub, if a file can't be read or
/// written, or if the operation is interrupted.
///
/// The copy runs in one read transaction. Without the transaction, SQLite would begin again after each commit of a
/// server, and a server that commits hundreds of times per second would never let the copy end. A reader does not block
/// the server's writer. Until the copy ends, the server can't reuse the write-ahead log from its beginning, so the log
/// grows by the commits of this time. Copying pages keeps that time short: VACUUM INTO would read every row and build
/// every index again, which takes several times as long and competes with the server for the processors.
pub fn copy(source: &ConnectedDatabase, target: &Path, control: &Control) -> Result<LogEnd, MaintenanceError> {
    let unreadable = |error| MaintenanceError::from_read(&source.path, &error);
    source.conn.pragma_update(None, "query_only", "ON").map_err(unreadable)?;
    let snapshot = source.conn.unchecked_transaction().map_err(unreadable)?;
    let end = source.identify()?;
    let mut copy = open_copy(target).map_err(|error| MaintenanceError::from_write(target, &error))?;
    copy_pages(source, &mut copy, target, control)?;
    drop(snapshot);
    // The copy has no log, so a log with its name is another one.
    let closed = header::set_application_id(&copy, header::CLOSED_ID);
    closed.map_err(|error| MaintenanceError::from_write(target, &error))?;
    // The source's header asks for a write-ahead log. A copy without one is a single file, which SQLite can also read
    // from a folder that is not writable.
    let set_mode = copy.pragma_update(None, "journal_mode", "DELETE");
    set_mode.map_err(|error| MaintenanceError::from_write(target, &error))?;
    Ok(end)
}

/// Opens the file of a copy.
fn open_copy(target: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(target, flags)?;
    // No other process knows the file, so SQLite needs no shared memory for it.
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // An incomplete copy is removed, and a complete copy is synchronized once, so SQLite need do neither.
    conn.pragma_update(None, "journal_mode", "OFF")?;
    conn.pragma_update(None, "synchronous", "OFF")?;
    Ok(conn)
}

fn copy_pages(
    source: &ConnectedDatabase,
    copy: &mut Connection,
    target: &Path,
    control: &Control,
) -> Result<(), MaintenanceError> {
    let failed = |error| copy_failure(source, target, &error);
    let page_size = source.conn.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0)).map_err(failed)?;
    let bytes = |pages: i32| u64::try_from(pages).unwrap_or(0) * u64::from(page_size);
    let backup = Backup::new(&source.conn, copy).map_err(failed)?;
    loop {
        control.check()?;
        let step = backup.step(STEP_PAGES).map_err(failed)?;
        let pages = backup.progress();
        let (remaining, total) = (bytes(pages.remaining), bytes(pages.pagecount));
        control.report(Progress::Copying { bytes: total.saturating_sub(remaining), total });
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => return Err(MaintenanceError::not_written(target, "another program has locked the file")),
        }
    }
}

/// Returns the error for a failure of SQLite, which does not say whether the read or the write has failed.
fn copy_failure(source: &ConnectedDatabase, target: &Path, error: &rusqlite::Error) -> MaintenanceError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => MaintenanceError::from_read(&source.path, error),
        _ => MaintenanceError::from_write(target, error),
    }
}

/// Checks a copy of `source`. Fails if the copy is damaged or can't be read, or if the operation is interrupted.
pub fn check(copy: &ConnectedDatabase, source: &Path, control: &Control) -> Result<(), MaintenanceError> {
    control.report(Progress::Checking);
    let watched = control.watch_statements(&copy.conn, Progress::Checking);
    let find = || copy.conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match watched.and_then(|()| find()) {
        Ok(result) if result == "ok" => control.check(),
        Ok(problem) => Err(MaintenanceError::Damaged { path: source.to_owned(), problem }),
        Err(error) => Err(MaintenanceError::from_read(source, &error)),
    }
}
