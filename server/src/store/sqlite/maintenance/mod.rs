//! This module copies, restores and shrinks database files. Its functions run without a server, except that `backup`
//! also runs beside a server.
//!
//! No function migrates a database: the server that opens the database next does. An operator can therefore back up a
//! database with the new binary before an upgrade.

mod backup;
mod control;
mod copy;
mod database;
mod new_file;
mod reset_log_id;
mod restore;
#[cfg(test)]
mod tests;
mod vacuum;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

pub use self::backup::{Backup, backup};
pub use self::control::{Control, Progress};
pub use self::reset_log_id::{LogReset, reset_log_id};
pub use self::restore::{Restored, restore};
pub use self::vacuum::{Vacuumed, vacuum};
use super::OpenError;
pub use crate::store::counters::LogEnd;

/// Specifies why a database file can't be copied, restored or changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MaintenanceError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the file {} does not exist: check the path", .0.display())]
    Missing(PathBuf),
    #[error("the file {} is not a database of Runhub: check the path", .0.display())]
    NotRunhub(PathBuf),
    #[error("the file {} exists, and this command never replaces a file: pass another path, or move the file away", .0.display())]
    Exists(PathBuf),
    #[error("the database {} is damaged ({problem}): use an earlier backup", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "the write-ahead log of {} is missing or damaged, and a vacuum would hide this: start and stop a server on the \
        database first, which reports whether commits are lost", .0.display()
    )]
    LostCommits(PathBuf),
    #[error("can't write {}: {cause}: check the folder, its permissions and its free space", path.display())]
    NotWritten { path: PathBuf, cause: String },
    #[error("vacuuming {} needs up to {} of free space in its folder: free space, or move the database to a larger disk",
        path.display(), ByteSize(*needed))]
    NoSpace { path: PathBuf, needed: u64 },
    #[error("interrupted, so nothing was changed")]
    Interrupted,
}

impl MaintenanceError {
    fn not_written(path: &Path, cause: impl Display) -> Self {
        Self::NotWritten { path: path.to_owned(), cause: cause.to_string() }
    }

    /// Returns the error for a failed read of the database at `path`.
    fn from_read(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Self::Interrupted,
            Some(rusqlite::ErrorCode::NotADatabase) => Self::NotRunhub(path.to_owned()),
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path: path.to_owned(), problem: error.to_string() }
            }
            _ => OpenError::unreadable(path, error).into(),
        }
    }

    /// Returns the error for a failed write to the database at `path`.
    fn from_write(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Self::Interrupted,
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path: path.to_owned(), problem: error.to_string() }
            }
            _ => Self::not_written(path, error),
        }
    }
}
