//! This module backs up a database.

use std::path::Path;

use super::database::ConnectedDatabase;
use super::new_file::NewFile;
use super::{Control, MaintenanceError, copy};
use crate::store::counters::LogEnd;

/// A backup that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Size of the backup in bytes.
    pub bytes: u64,
    /// End of the log in the backup.
    pub log_end: LogEnd,
}

/// Copies the database `db`, which a server may have open, into the new file `file`, and checks the copy. The backup
/// contains every write that was acknowledged before the call. Fails if `file` exists or can't be written, if `db` does
/// not exist, is not a database of Runhub, or is damaged, or if the operation is interrupted. A failed backup leaves no
/// file.
pub fn backup(db: &Path, file: &Path, control: &Control) -> Result<Backup, MaintenanceError> {
    let source = ConnectedDatabase::open(db)?;
    source.identify()?;
    let new = NewFile::create(file)?;
    let log_end = copy::copy(&source, new.path(), control)?;
    copy::check(&ConnectedDatabase::open(new.path())?, db, control)?;
    Ok(Backup { bytes: new.publish()?, log_end })
}
