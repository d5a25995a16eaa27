//! All that is SQLite's own: opening, locking and migrating the file; the connection that writes; the connections that
//! read.

mod checkpoint;
mod migrations;
#[cfg(test)]
pub mod query_plans;
mod readers;
mod session;
mod tx;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub(super) use self::readers::Readers;
pub(super) use self::session::SqliteSession;
use self::tx::SqliteTx;
use super::counters;
use super::session::Counted;
use crate::clock::{Clock, Ids};
use crate::error::Error;

/// Before 3.51.3, SQLite could lose a commit that ran beside a checkpoint.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Size of each connection's cache of prepared statements: more than there are statements, so that each is prepared once.
const STATEMENT_CACHE: usize = 256;

/// How long to wait while another program writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("another runhub has {} open: stop it, or pass another --db", .0.display())]
    InUse(PathBuf),
    #[error("{} was written by a newer runhub: use that version, or pass another --db", .0.display())]
    TooNew(PathBuf),
    #[error("SQLite {0} can lose commits: runhub needs SQLite 3.51.3 or newer")]
    OldSqlite(&'static str),
    #[error("can't open {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
}

impl OpenError {
    pub(super) fn at(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// Returns the name and version of the database, for GetServerInfo.
pub fn version() -> String {
    format!("sqlite {}", rusqlite::version())
}

/// An open database file.
pub(super) struct Database {
    /// The connection that writes.
    pub session: SqliteSession,
    /// The connections that read.
    pub readers: Readers,
    /// The numbers that are committed.
    pub counted: Counted,
    /// Names this database. A cursor is good for one log_id.
    pub log_id: String,
    /// Keeps other servers from opening the file as long as it is held.
    pub lock: File,
}

/// Locks, creates or migrates, and opens a database file.
///
/// # Errors
/// Another server has the file open; its schema is newer than this program; it can't be read or written.
pub(super) fn open(path: &Path, clock: &Arc<dyn Clock>) -> Result<Database, OpenError> {
    let lock = lock(path)?;
    let conn = open_writer(path)?;
    let ids = Ids::new();
    let counters = counters::load_or_create(&mut SqliteTx::new(&conn, clock.as_ref(), &ids, None));
    let counters = counters.map_err(|cause: Error| OpenError::at(path, cause))?;
    let readers = Readers::open(path, Arc::clone(clock))?;
    let session = SqliteSession::new(conn, Arc::clone(clock), ids, counters.counted);
    Ok(Database { session, readers, counted: counters.counted, log_id: counters.log_id, lock })
}

/// Takes the lock file `PATH.lock`. The operating system releases it when this process ends, however it ends. Symbolic
/// links are resolved first, so that all names of one file lead to one lock.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|cause| OpenError::at(Path::new(&name), cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(cause)) => Err(OpenError::at(Path::new(&name), cause)),
    }
}

/// Opens the connection that writes and migrates the schema to the newest version.
///
/// # Errors
/// The schema is newer than this program, or the file can't be read or written.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    check_sqlite(rusqlite::version_number())?;
    let at = |cause: rusqlite::Error| OpenError::at(path, cause);
    let mut conn = Connection::open(path).map_err(at)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(at)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(at)?;
    if mode != "wal" {
        return Err(OpenError::at(path, format!("its journal_mode stays {mode} and can't be set to WAL")));
    }
    conn.pragma_update(None, "synchronous", "FULL").map_err(at)?;
    conn.pragma_update(None, "foreign_keys", "ON").map_err(at)?;
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    checkpoint::log_checkpoints(&conn);
    migrations::migrate(&mut conn, path)?;
    Ok(conn)
}

fn check_sqlite(version: i32) -> Result<(), OpenError> {
    if version < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    Ok(())
}

/// Sets up a connection that only reads.
fn prepare_reader(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(())
}

/// Returns the flags for opening a connection that only reads.
fn reader_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Converts an error of SQLite. Only a lock held by another program is worth a retry.
fn sql_error(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Error::StoreBusy,
        _ => Error::internal(format!("SQLite: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_that_can_lose_commits_is_refused() {
        assert!(check_sqlite(OLDEST_SQLITE).is_ok());
        assert!(matches!(check_sqlite(OLDEST_SQLITE - 1), Err(OpenError::OldSqlite(_))));
    }
}
