//! This module contains all code that is specific to SQLite. The module opens, locks and migrates the database file,
//! and owns the connections that read and write.

mod checkpoint;
mod migrations;
#[cfg(test)]
pub mod query_plans;
mod readers;
mod session;
mod statements;
mod tx;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

pub(super) use self::readers::Readers;
pub(super) use self::session::SqliteWriter;
use self::tx::SqliteTx;
use super::counters::Counters;
use super::session::LastAssigned;
use super::{counters, due, path_sets};
use crate::clock::{Clock, IdGenerator};
use crate::domain::time::ClockStep;
use crate::error::Error;

/// Oldest accepted version number of SQLite (3.51.3). Earlier versions can lose a commit that runs at the same time as
/// a checkpoint.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Maximum number of statements in the cache of a connection. The server has fewer than 256 statements, so a reader
/// prepares each statement once. The writer keeps its statements in `KeptStatements`, and uses the cache only at the
/// start and for checkpoints.
const STATEMENT_CACHE: usize = 256;

/// Maximum time to wait while another program writes to the database file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Specifies why a database can't be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("another runhub has the database {} open: stop that runhub, or pass another --db", .0.display())]
    InUse(PathBuf),
    #[error("the database {} was written by a newer runhub: upgrade this runhub, or pass another --db", .0.display())]
    TooNew(PathBuf),
    #[error("this runhub contains SQLite {0}, which can lose commits: use a runhub with SQLite 3.51.3 or newer")]
    OldSqlite(&'static str),
    #[error("can't open the database {}: {cause}: check the file and its folder, or pass another --db", path.display())]
    Unreadable { path: PathBuf, cause: String },
}

impl OpenError {
    pub(super) fn unreadable(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// Returns the text `sqlite` and the version of the linked SQLite library for the GetServerInfo response.
pub fn version() -> String {
    format!("sqlite {}", rusqlite::version())
}

/// Holds an open database file and the connections to the file.
pub(super) struct Database {
    /// The only connection that writes.
    pub writer: SqliteWriter,
    /// Pool of the connections that read.
    pub readers: Readers,
    /// Last position and key that committed transactions have assigned.
    pub last_assigned: LastAssigned,
    /// Identifier of this database. A cursor is valid only for one log_id.
    pub log_id: String,
    /// Handle of the lock file. As long as this handle is held, no other server can open the database.
    pub lock: File,
}

/// Locks a database file, creates or migrates the database schema, and opens the connections. Returns the open
/// database. Fails if another server has the database file open, if a newer version of Runhub has migrated the
/// database, if the linked SQLite version can lose commits, or if the database file can't be read or written.
pub(super) fn open(path: &Path, clock: &Arc<dyn Clock>) -> Result<Database, OpenError> {
    let lock = lock(path)?;
    let conn = open_writer(path)?;
    let ids = IdGenerator::new();
    let mut tx = SqliteTx::new(&conn, clock.as_ref(), &ids, None);
    let unreadable = |cause: Error| OpenError::unreadable(path, cause);
    let mut counters = counters::load_or_create(&mut tx).map_err(unreadable)?;
    path_sets::remove_unused(&mut tx).map_err(unreadable)?;
    follow_clock_set_back(&conn, clock.as_ref(), &ids, &mut counters).map_err(unreadable)?;
    let readers = Readers::open(path, Arc::clone(clock))?;
    let writer = SqliteWriter::new(conn, Arc::clone(clock), ids, counters.last_assigned);
    Ok(Database { writer, readers, last_assigned: counters.last_assigned, log_id: counters.log_id, lock })
}

/// Moves the ends of all durations if the clock was set back while no server ran. Otherwise a lease or a retry delay
/// would last longer by the step. If the clock was set forward, the time counts as passed.
fn follow_clock_set_back(
    conn: &Connection,
    clock: &dyn Clock,
    ids: &IdGenerator,
    counters: &mut Counters,
) -> Result<(), Error> {
    let step = ClockStep::between(counters.last_commit_time, clock.now());
    if step >= ClockStep::NONE {
        return Ok(());
    }
    let transaction = conn.unchecked_transaction().map_err(sql_error)?;
    let mut tx = SqliteTx::new(conn, clock, ids, Some(counters.last_assigned));
    due::move_durations(&mut tx, step)?;
    counters.last_assigned = tx.last_assigned().unwrap_or(counters.last_assigned);
    counters::save(&mut tx, counters.last_assigned)?;
    transaction.commit().map_err(sql_error)?;
    tracing::warn!(step_seconds = step.size().as_secs(), "the clock was set back while no server ran");
    Ok(())
}

/// Locks the file `PATH.lock` and returns the handle of the lock file. Fails with `InUse` if another process holds the
/// lock. The operating system releases the lock when this process ends, even after a crash. Symbolic links are resolved
/// first, so that all names of a database file lead to one lock file.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|cause| OpenError::unreadable(Path::new(&name), cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(cause)) => Err(OpenError::unreadable(Path::new(&name), cause)),
    }
}

/// Opens the connection that writes, migrates the schema to the newest version, and returns the connection. Fails if
/// the linked SQLite version can lose commits, if a newer version of Runhub has migrated the database, or if the
/// database file can't be read or written.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    check_sqlite(rusqlite::version_number())?;
    let unreadable = |cause: rusqlite::Error| OpenError::unreadable(path, cause);
    let mut conn = Connection::open(path).map_err(unreadable)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(unreadable)?;
    let mode: String =
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(unreadable)?;
    if mode != "wal" {
        return Err(OpenError::unreadable(path, format!("its journal_mode stays {mode} and can't be set to WAL")));
    }
    conn.pragma_update(None, "synchronous", "FULL").map_err(unreadable)?;
    conn.pragma_update(None, "foreign_keys", "ON").map_err(unreadable)?;
    prepare_statements(&conn).map_err(unreadable)?;
    migrations::migrate(&mut conn, path)?;
    // Migrate first, so that a large migration is copied into the database file before the server answers calls.
    checkpoint::disable_automatic_checkpoints(&conn).map_err(unreadable)?;
    Ok(conn)
}

fn check_sqlite(version: i32) -> Result<(), OpenError> {
    if version < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    Ok(())
}

/// Configures a connection that only reads.
fn prepare_reader(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    prepare_statements(conn)
}

/// Configures how a connection prepares and caches its statements.
fn prepare_statements(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Plan each statement once. Otherwise SQLite would plan a cached statement again for each execution in which a
    // parameter of a LIMIT clause, or of a comparison that an index can answer, has a different value.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Returns the flags that open a connection for reading only.
fn reader_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Converts an SQLite error to the store's error type. If another program holds a lock, the function returns
/// `StoreBusy`, which tells the caller to retry.
fn sql_error(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Error::StoreBusy,
        _ => Error::internal(format!("SQLite: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn sqlite_that_can_lose_commits_is_refused() {
        assert!(check_sqlite(OLDEST_SQLITE).is_ok());
        assert!(matches!(check_sqlite(OLDEST_SQLITE - 1), Err(OpenError::OldSqlite(_))));
    }

    #[test]
    fn statement_is_planned_once_for_all_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let writer = open_writer(&path).unwrap();
        let mut reader = Connection::open_with_flags(&path, reader_flags()).unwrap();
        prepare_reader(&mut reader).unwrap();
        for conn in [writer, reader] {
            let mut statement = conn.prepare("SELECT key FROM tasks WHERE key > $1 LIMIT $2").unwrap();
            for value in 1..5 {
                assert!(statement.query([value, value]).unwrap().next().unwrap().is_none());
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
