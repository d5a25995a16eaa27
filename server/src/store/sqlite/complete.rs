//! This module makes a database one complete file, which can be copied without its write-ahead log.

use std::fs::File;
use std::io::{self, ErrorKind};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::checkpoint;
use super::errors::{file_error, sql_error};
use super::file::{DatabaseFile, wal_path};
use crate::error::Result;

/// Copies the write-ahead log into the database file, empties the log, and marks the file as closed. Then closing the
/// connection removes the log. The connection must be the last one. Fails if another program reads the log, or if a
/// file can't be written. After a failure, the log must stay with the database file.
pub fn complete_file(conn: &Connection, database: &DatabaseFile) -> Result<()> {
    checkpoint::empty_log(conn).map_err(sql_error)?;
    let marked = sync_log(database).and_then(|()| database.mark_closed());
    marked.map_err(file_error)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop).map_err(sql_error)
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
