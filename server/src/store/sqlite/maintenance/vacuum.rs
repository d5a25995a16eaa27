//! This module rewrites a database, so that the file system gets the unused space back.

use std::path::Path;

use rusqlite::Connection;

use super::super::checkpoint::empty_log;
use super::super::errors::is_full_disk;
use super::control::stop_watching;
use super::database::{ConnectedDatabase, LockedDatabase, LostCommits};
use super::{Control, MaintenanceError, Progress};

/// Value of `PRAGMA auto_vacuum` for a database whose unused pages can be returned without a vacuum.
const INCREMENTAL: i64 = 2;

/// The result of a vacuum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vacuumed {
    /// Size of the database file before the vacuum, in bytes.
    pub bytes_before: u64,
    /// Size of the database file after the vacuum, in bytes.
    pub bytes_after: u64,
    /// If the vacuum has changed the database to incremental auto_vacuum, the value is true.
    pub is_converted: bool,
}

/// Rewrites the database `db` with incremental auto_vacuum and without unused pages. Fails if `db` does not exist, is
/// not a database of Runhub, is damaged or can't be written, if a server has `db` open, if the folder has too little
/// free space, or if the operation is interrupted. A failed vacuum leaves the database as it was.
pub fn vacuum(db: &Path, control: &Control) -> Result<Vacuumed, MaintenanceError> {
    let locked = LockedDatabase::open(db, LostCommits::Refused)?;
    rewrite(&locked.database, control)
}

fn rewrite(database: &ConnectedDatabase, control: &Control) -> Result<Vacuumed, MaintenanceError> {
    let ConnectedDatabase { conn, path } = database;
    let failed = |error| MaintenanceError::from_write(path, &error);
    empty_log(conn).map_err(failed)?;
    let before = Space::read(conn).map_err(failed)?;
    // SQLite writes the used pages into a temporary file, and then into the write-ahead log.
    let needed = 2 * before.used_bytes;
    let failed = |error| failure(path, needed, &error);
    let progress = Progress::Vacuuming { needed };
    control.report(progress);
    control.watch_statements(conn, progress).map_err(failed)?;
    use_folder_for_temporary_files(conn, path).map_err(failed)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    conn.execute_batch("VACUUM").map_err(failed)?;
    // From here on the vacuum is committed, so an interruption would come too late.
    stop_watching(conn).map_err(failed)?;
    empty_log(conn).map_err(failed)?;
    let after = Space::read(conn).map_err(failed)?;
    let is_converted = before.auto_vacuum != INCREMENTAL && after.auto_vacuum == INCREMENTAL;
    Ok(Vacuumed { bytes_before: before.bytes, bytes_after: after.bytes, is_converted })
}

/// Returns the error for a failed vacuum that needs up to `needed` bytes of free space.
pub(super) fn failure(path: &Path, needed: u64, error: &rusqlite::Error) -> MaintenanceError {
    if is_full_disk(error) {
        MaintenanceError::NoSpace { path: path.to_owned(), needed }
    } else {
        MaintenanceError::from_write(path, error)
    }
}

/// Lets SQLite write the rewritten database into the folder of the database. SQLite would otherwise use the system's
/// folder for temporary files, which often has less space. The environment variables that select the folder can't be
/// changed safely in a process with threads. If the path is not UTF-8, SQLite uses the system's folder.
fn use_folder_for_temporary_files(conn: &Connection, path: &Path) -> rusqlite::Result<()> {
    match path.parent().and_then(Path::to_str) {
        Some(folder) => conn.pragma_update(None, "temp_store_directory", folder),
        None => Ok(()),
    }
}

/// The space that a database uses.
struct Space {
    /// Size of the database file in bytes.
    bytes: u64,
    /// Size of the used pages in bytes.
    used_bytes: u64,
    auto_vacuum: i64,
}

impl Space {
    fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let value = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0).map(u64::from));
        let (page_size, pages, unused) = (value("page_size")?, value("page_count")?, value("freelist_count")?);
        let auto_vacuum = conn.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
        Ok(Self { bytes: page_size * pages, used_bytes: page_size * pages.saturating_sub(unused), auto_vacuum })
    }
}
