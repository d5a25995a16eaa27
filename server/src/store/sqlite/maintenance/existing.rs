//! This module opens a database file that exists, and checks that the file is a database of Runhub.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::file::{DatabaseFile, WalFile, wal_path};
use super::super::open::check_sqlite;
use super::super::{BUSY_TIMEOUT, OpenError, SqliteTx, header, migrations};
use super::MaintenanceError;
use crate::clock::{IdGenerator, SystemClock};
use crate::store::counters::{self, LogEnd};

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
        prepare(&conn, &path).map_err(|error| MaintenanceError::from_read(&path, &error))?;
        Ok(Self { conn, path })
    }

    /// Returns the end of the database's log. Fails if the file is not a database of Runhub, or if a newer version of
    /// Runhub has migrated the database.
    pub fn identify(&self) -> Result<LogEnd, MaintenanceError> {
        if !header::is_runhub(&self.conn).map_err(|error| MaintenanceError::from_read(&self.path, &error))? {
            return Err(MaintenanceError::NotRunhub(self.path.clone()));
        }
        migrations::check_version(&self.conn, &self.path)?;
        let ids = IdGenerator::new();
        let end = counters::find_log_end(&mut SqliteTx::new(&self.conn, &SystemClock::new(), &ids, None));
        let end = end.map_err(|error| OpenError::unreadable(&self.path, error))?;
        end.ok_or_else(|| MaintenanceError::NotRunhub(self.path.clone()))
    }
}

/// Prepares a connection. If the write-ahead log has commits, closing the connection must not remove the log: the next
/// server would report the log as lost.
fn prepare(conn: &Connection, path: &Path) -> rusqlite::Result<()> {
    let has_log = wal_path(path).metadata().is_ok_and(|log| log.len() > 0);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)?;
    conn.busy_timeout(BUSY_TIMEOUT)
}

/// A database that no server has open, and that no server can open as long as this value exists.
pub struct Exclusive {
    /// Connection to the database. SQLite must close the files before the locks are released, so this field stands
    /// before the locks.
    pub database: Existing,
    /// End of the log when the database was opened.
    pub log_end: LogEnd,
    _wal: Option<WalFile>,
    _file: DatabaseFile,
}

impl Exclusive {
    /// Locks and opens a database. Fails if the file does not exist, if the file is not a database of Runhub, or if a
    /// server has the database open.
    pub fn open(path: &Path) -> Result<Self, MaintenanceError> {
        // Identify the database first, because opening the locked file would create a missing file.
        Existing::open(path)?.identify()?;
        let file = DatabaseFile::open(path)?;
        let wal = WalFile::open(&file)?;
        let database = Existing::open(path)?;
        let log_end = database.identify()?;
        Ok(Self { database, log_end, _wal: wal, _file: file })
    }
}
