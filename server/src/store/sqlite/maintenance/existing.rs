//! This module opens a database file that exists, and checks that the file is a database of Runhub.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::super::{BUSY_TIMEOUT, OpenError, SqliteTx, check_sqlite, lock, migrations};
use super::MaintenanceError;
use crate::clock::{IdGenerator, SystemClock};
use crate::store::counters::{self, LogEnd};

/// Number of the tables in `RUNHUB_TABLES`.
const TABLE_COUNT: i64 = 6;

/// Counts the tables that a database of Runhub has in every schema version.
const RUNHUB_TABLES: &str = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table'
    AND name IN ('counters', 'runs', 'run_counters', 'tasks', 'task_attempts', 'events')";

/// A database file that exists.
pub struct Existing {
    /// Connection to the database.
    pub conn: Connection,
    /// Path without symbolic links.
    pub path: PathBuf,
}

impl Existing {
    /// Opens a database file without a lock. Fails if the file does not exist or can't be opened. SQLite does not read
    /// the file yet.
    ///
    /// The connection may write, because a connection that only reads would leave the files of an empty write-ahead log
    /// beside the database when the connection is closed.
    pub fn open(path: &Path) -> Result<Self, MaintenanceError> {
        check_sqlite(rusqlite::version_number())?;
        // A path without symbolic links is absolute, so SQLite does not take it for a URI.
        let path = path.canonicalize().map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => MaintenanceError::Missing(path.to_owned()),
            _ => OpenError::unreadable(path, cause).into(),
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&path, flags);
        let conn = conn.map_err(|error| MaintenanceError::from_read(&path, &error))?;
        conn.busy_timeout(BUSY_TIMEOUT).map_err(|error| MaintenanceError::from_read(&path, &error))?;
        Ok(Self { conn, path })
    }

    /// Returns the end of the database's log. Fails if the file is not a database of Runhub, or if a newer version of
    /// Runhub has migrated the database.
    pub fn identify(&self) -> Result<LogEnd, MaintenanceError> {
        let tables: rusqlite::Result<i64> = self.conn.query_row(RUNHUB_TABLES, [], |row| row.get(0));
        if tables.map_err(|error| MaintenanceError::from_read(&self.path, &error))? != TABLE_COUNT {
            return Err(MaintenanceError::NotRunhub(self.path.clone()));
        }
        migrations::check_version(&self.conn, &self.path)?;
        let ids = IdGenerator::new();
        let end = counters::find_log_end(&mut SqliteTx::new(&self.conn, &SystemClock::new(), &ids, None));
        let end = end.map_err(|error| OpenError::unreadable(&self.path, error))?;
        end.ok_or_else(|| MaintenanceError::NotRunhub(self.path.clone()))
    }
}

/// A database that no server has open, and that no server can open as long as this value exists.
pub struct Exclusive {
    /// Connection to the database. SQLite must close the file before the lock is released, so this field stands before
    /// the lock.
    pub database: Existing,
    /// End of the log when the database was opened.
    pub log_end: LogEnd,
    _lock: File,
}

impl Exclusive {
    /// Locks and opens a database. Fails if the file does not exist, if the file is not a database of Runhub, or if a
    /// server has the database open.
    pub fn open(path: &Path) -> Result<Self, MaintenanceError> {
        // Identify the database first, so that the command creates no lock for the file of another program.
        Existing::open(path)?.identify()?;
        let lock = lock(path)?;
        let database = Existing::open(path)?;
        let log_end = database.identify()?;
        Ok(Self { database, log_end, _lock: lock })
    }
}
