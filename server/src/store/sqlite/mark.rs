//! This module marks in the file of a database whether the newest commits can be in the write-ahead log.

use std::fs::File;
use std::io::{self, ErrorKind};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::checkpoint;
use super::errors::{file_error, sql_error};
use super::file::{DatabaseFile, WalFile, wal_path};
use super::header::{CLOSED_ID, Inspection, OPEN_ID, UNMARKED_ID};
use crate::error::{Error, Result};

/// Marks an existing database before SQLite opens it. The log must be on disk before the mark `OPEN_ID`, because the
/// log of an open database must not be missing. If the database has no log yet, the mark is removed until SQLite has
/// made the log durable.
pub fn prepare(database: &DatabaseFile, inspection: Inspection) -> io::Result<()> {
    if !inspection.has_log {
        return database.write_mark(UNMARKED_ID);
    }
    WalFile::create(database)?;
    database.write_mark(OPEN_ID)
}

/// Copies the write-ahead log into the database file, empties the log, and marks the file as closed. Then closing the
/// connection removes the log. The connection must be the last one. Fails if another program reads the log, or if a
/// file can't be written. After a failure, the log must stay with the database file.
pub fn complete_file(conn: &Connection, database: &DatabaseFile) -> Result<()> {
    checkpoint::empty_log(conn).map_err(sql_error)?;
    let marked = sync_log(database).and_then(|()| database.write_mark(CLOSED_ID));
    marked.map_err(file_error)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop).map_err(sql_error)
}

/// Logs that `complete_file` has failed.
pub fn warn_incomplete(database: &DatabaseFile, error: &Error) {
    let db = database.path().display();
    tracing::warn!(%error, %db, "the newest commits stay in the write-ahead log: keep the log with the database");
}

/// Waits until the length of the log is on disk. Otherwise a power loss could bring the commits of the log back, and
/// the next server would refuse the log, because a closed database has none.
fn sync_log(database: &DatabaseFile) -> io::Result<()> {
    match File::open(wal_path(database.path())) {
        Ok(log) => log.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
