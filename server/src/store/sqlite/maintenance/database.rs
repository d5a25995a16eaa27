//! This module opens a database file that exists, and checks that the file is a database of Runhub.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::file::{DatabaseFile, WalFile, wal_path};
use super::super::header::{Header, LogMark};
use super::super::log_check::NewestCommits;
use super::super::open::check_sqlite;
use super::super::{BUSY_TIMEOUT, OpenError, SqliteTx, header, log_check, mark, migrations};
use super::MaintenanceError;
use crate::clock::{IdGenerator, SystemClock};
use crate::store::counters::{self, LogEnd};

/// A connection to a database file that exists.
pub struct ConnectedDatabase {
    /// Connection to the database.
    pub conn: Connection,
    /// Path without symbolic links.
    pub path: PathBuf,
}

impl ConnectedDatabase {
    /// Opens a database file without a lock. Fails if the file does not exist or can't be opened, and if the
    /// write-ahead log belongs to another file. SQLite does not read the file yet.
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
        let mark = find_mark(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&path, flags);
        let conn = conn.map_err(|error| MaintenanceError::from_read(&path, &error))?;
        prepare(&conn, &path, mark).map_err(|error| MaintenanceError::from_read(&path, &error))?;
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

impl Drop for ConnectedDatabase {
    fn drop(&mut self) {
        // A server can have opened the database, and ended in a crash, since this connection was opened. Its commits
        // are in the log, so closing the connection must not remove the log.
        if wal_path(&self.path).metadata().is_ok_and(|log| log.len() > 0) {
            // Ignore the error, which is not possible with an open connection.
            let _ = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
}

/// Returns the mark of a database file. Fails if the file is not an SQLite database, and if the write-ahead log beside
/// the file has commits that do not belong to the database.
fn find_mark(path: &Path) -> Result<LogMark, MaintenanceError> {
    let file = File::open(path).map_err(|cause| OpenError::unreadable(path, cause))?;
    let read_mark = || match Header::read(&file, path) {
        Ok(header) => Ok(header.map_or(LogMark::Closed, Header::log_mark)),
        Err(OpenError::OtherFile(path)) => Err(MaintenanceError::NotRunhub(path)),
        Err(other) => Err(other.into()),
    };
    let mark = read_mark()?;
    // The log of an open database can be written by a server at this moment.
    if mark != LogMark::Closed {
        return Ok(mark);
    }
    let log = match File::open(wal_path(path)) {
        Ok(log) => log,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(mark),
        Err(error) => return Err(OpenError::unreadable(&wal_path(path), error).into()),
    };
    // A server can have opened the database after the first look.
    let mark = read_mark()?;
    log_check::check(path, mark, Some(&log))?;
    Ok(mark)
}

/// Prepares a connection. If the database has a write-ahead log and is open, or if the log has commits, closing the
/// connection must not remove the log: the next server would report the log as lost. If the log is missing, closing the
/// connection must remove the log that SQLite creates: the next server must report the loss.
fn prepare(conn: &Connection, path: &Path, mark: LogMark) -> rusqlite::Result<()> {
    let keeps_log = wal_path(path).metadata().is_ok_and(|log| mark == LogMark::Open || log.len() > 0);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps_log)?;
    conn.busy_timeout(BUSY_TIMEOUT)
}

/// A database that no server has open, and that no server can open as long as this value exists.
pub struct LockedDatabase {
    /// Connection to the database. SQLite must close the files before the locks are released, so this field stands
    /// before the locks.
    pub database: ConnectedDatabase,
    /// End of the log when the database was opened.
    pub log_end: LogEnd,
    /// If commits are lost, and the next server must find the loss, the value is true.
    keeps_loss: bool,
    _wal: Option<WalFile>,
    file: DatabaseFile,
}

/// Specifies whether a command accepts that the newest commits of a database are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostCommits {
    /// The command refuses the database, because the next server must find the loss.
    Refused,
    /// The command calls `accept_loss` when it has ended the loss.
    Accepted,
}

impl LockedDatabase {
    /// Locks and opens a database, and marks it as open. If commits are lost, the database is marked already. Fails if
    /// the file does not exist, if the file is not a database of Runhub, if a server has the database open, or if
    /// commits are lost and `lost` does not accept this.
    pub fn open(path: &Path, lost: LostCommits) -> Result<Self, MaintenanceError> {
        // Look for the file first, because opening the locked file would create a missing file.
        drop(ConnectedDatabase::open(path)?);
        let file = DatabaseFile::open(path)?;
        let inspection = header::inspect(&file).map_err(|error| match error {
            OpenError::OtherFile(path) => MaintenanceError::NotRunhub(path),
            other => other.into(),
        })?;
        if inspection.is_new {
            return Err(MaintenanceError::NotRunhub(path.to_owned()));
        }
        let wal = WalFile::open(&file)?;
        let commits = log_check::check(file.path(), inspection.log_mark, wal.as_ref().map(WalFile::file))?;
        if commits != NewestCommits::Present && lost == LostCommits::Refused {
            return Err(MaintenanceError::LostCommits(file.path().to_owned()));
        }
        ConnectedDatabase::open(path)?.identify()?;
        let keeps_loss = commits != NewestCommits::Present;
        if !keeps_loss {
            mark::prepare(&file, inspection).map_err(|cause| MaintenanceError::not_written(path, cause))?;
        }
        let database = ConnectedDatabase::open(path)?;
        let marked = header::set_application_id(&database.conn, header::OPEN_ID);
        marked.map_err(|cause| MaintenanceError::from_write(path, &cause))?;
        let log_end = database.identify()?;
        Ok(Self { database, log_end, keeps_loss, _wal: wal, file })
    }

    /// Ends the loss of commits: the next server does not find the loss.
    pub fn accept_loss(&mut self) {
        self.keeps_loss = false;
    }
}

/// Makes the database one complete file. If an operation has failed, SQLite has rolled back its changes.
impl Drop for LockedDatabase {
    fn drop(&mut self) {
        if self.keeps_loss {
            return;
        }
        if let Err(error) = mark::complete_file(&self.database.conn, &self.file) {
            mark::warn_incomplete(&self.file, &error);
        }
    }
}
