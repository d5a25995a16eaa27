//! This module restores a database from a backup.

use std::path::Path;

use super::database::ConnectedDatabase;
use super::new_file::NewFile;
use super::{Control, LogReset, MaintenanceError, copy, reset_log_id};

/// A restored database that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Size of the database in bytes.
    pub bytes: u64,
    /// Log of the backup, and the log of the restored database.
    pub log: LogReset,
}

/// Copies the backup `file` into the new database `db`, checks the copy, and gives the copy a new log_id and higher
/// positions. Fails if `db` or a file of SQLite for `db` exists, if `file` does not exist, is not a database of Runhub
/// or is damaged, if a newer version of Runhub has written `file`, or if the operation is interrupted. A failed
/// operation leaves no database.
///
/// The function needs no lock on `db`. If a server creates `db` in the meantime, the last step fails.
pub fn restore(file: &Path, db: &Path, control: &Control) -> Result<Restored, MaintenanceError> {
    let source = ConnectedDatabase::open(file)?;
    source.identify()?;
    let new = NewFile::create(db)?;
    let old = copy::copy(&source, new.path(), control)?;
    let copy = ConnectedDatabase::open(new.path())?;
    copy::check(&copy, file, control)?;
    let log = reset_log_id::start_new_log(&copy, old)?;
    drop(copy);
    control.check()?;
    Ok(Restored { bytes: new.publish()?, log })
}
