//! This module gives a database a new log_id, because the database is a copy of another one.

use std::path::Path;

use super::super::checkpoint::empty_log;
use super::MaintenanceError;
use super::database::{ConnectedDatabase, LockedDatabase, LostCommits};
use crate::clock::{IdGenerator, SystemClock};
use crate::store::counters::{self, LogEnd};
use crate::store::sqlite::SqliteTx;

/// The ends of a database's log before and after a change of its log_id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LogReset {
    pub old: LogEnd,
    pub new: LogEnd,
}

/// Gives the database `db` a new log_id, and lets its positions continue 2^32 higher. Fails if `db` does not exist, is
/// not a database of Runhub, or can't be written, or if a server has `db` open.
pub fn reset_log_id(db: &Path) -> Result<LogReset, MaintenanceError> {
    let mut locked = LockedDatabase::open(db, LostCommits::Accepted)?;
    let reset = start_new_log(&locked.database, locked.log_end.clone())?;
    // Empty the write-ahead log, because the next server would find a damaged log again.
    let ConnectedDatabase { conn, path } = &locked.database;
    empty_log(conn).map_err(|error| MaintenanceError::from_write(path, &error))?;
    locked.accept_loss();
    Ok(reset)
}

/// Changes the log_id and the positions of an open database in one transaction.
pub(super) fn start_new_log(database: &ConnectedDatabase, old: LogEnd) -> Result<LogReset, MaintenanceError> {
    let failed = |error| MaintenanceError::from_write(&database.path, &error);
    let transaction = database.conn.unchecked_transaction().map_err(failed)?;
    let ids = IdGenerator::new();
    let new = counters::start_new_log(&mut SqliteTx::new(&database.conn, &SystemClock::new(), &ids, None), &old);
    let new = new.map_err(|error| MaintenanceError::not_written(&database.path, error))?;
    transaction.commit().map_err(failed)?;
    Ok(LogReset { old, new })
}
