//! This module converts SQLite's errors to the store's errors.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::{self, SQLITE_IOERR_GETTEMPPATH, SQLITE_IOERR_NOMEM, SQLITE_IOERR_SHORT_READ};

use crate::error::{self, Error};
use crate::store::OpenError;

/// Converts the error of an SQLite call to the store's error type. Call this function directly after the SQLite call
/// and on the same thread, because the function reads the error of the last system call. Returns:
///
/// - `StoreBusy` if another program holds a lock;
/// - `StoreFull` if the disk is full;
/// - `StoreFailed` if the database file can't be read or written;
/// - `StoreDamaged` if the content of the database file is damaged, or if the file is read-only;
/// - `Internal` for any other error.
pub(super) fn sql_error(error: rusqlite::Error) -> Error {
    let system_error = io::Error::last_os_error();
    match find_cause(&error, &system_error) {
        Cause::Busy => Error::StoreBusy,
        Cause::FullDisk => Error::StoreFull,
        // The error of the system call can be old, but usually it tells more than SQLite's text.
        Cause::FailedAccess => Error::StoreFailed(describe(&format!("{error} ({system_error})"))),
        Cause::Damage => Error::StoreDamaged(describe(&error.to_string())),
        Cause::Other => internal(&error),
    }
}

/// Converts the error of a system call on a file of the database to the store's error type.
pub(super) fn file_error(error: io::Error) -> Error {
    if error::is_full_disk(error.kind()) { Error::StoreFull } else { Error::StoreFailed(error.to_string()) }
}

/// Returns whether the cause of an SQLite error is a full disk. Call this function as `sql_error`.
pub(super) fn is_full_disk(error: &rusqlite::Error) -> bool {
    find_cause(error, &io::Error::last_os_error()) == Cause::FullDisk
}

/// Returns the cause of an error. SQLite's error codes do not contain the error of the system call. SQLite's function
/// sqlite3_system_errno returns this error, but is unsafe to call from Rust. The caller can still read the error,
/// because system calls that succeed do not change it.
fn find_cause(error: &rusqlite::Error, system_error: &io::Error) -> Cause {
    error.sqlite_error().map_or(Cause::Other, |code| classify(*code, system_error))
}

fn describe(error: &str) -> String {
    format!(
        "SQLite: {error}: check the disk, the file and the log of the operating system, then start the server again"
    )
}

fn internal(error: &rusqlite::Error) -> Error {
    Error::internal(format!("SQLite: {error}"))
}

impl OpenError {
    /// Returns the reason why the store can't read or write a database file. Call this function directly after the
    /// SQLite call, as `sql_error`.
    pub(in crate::store::sqlite) fn from_sqlite(path: &Path, cause: &rusqlite::Error) -> Self {
        if is_full_disk(cause) { Self::FullDisk(path.to_owned()) } else { Self::unreadable(path, cause) }
    }

    pub(in crate::store::sqlite) fn from_store(path: &Path, cause: &Error) -> Self {
        if *cause == Error::StoreFull { Self::FullDisk(path.to_owned()) } else { Self::unreadable(path, cause) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Busy,
    FullDisk,
    FailedAccess,
    Damage,
    Other,
}

/// Returns the cause of an SQLite error. `system_error` is the error of the last system call that failed.
fn classify(code: ffi::Error, system_error: &io::Error) -> Cause {
    let is_full_disk = error::is_full_disk(system_error.kind());
    match code.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Cause::Busy,
        ErrorCode::DiskFull => Cause::FullDisk,
        // SQLite returns DiskFull only if a write fails with ENOSPC. An exhausted quota (EDQUOT), a limit of the file
        // size (EFBIG), and a full disk in any other system call are I/O errors.
        ErrorCode::SystemIoFailure if is_full_disk && !is_without_system_call(code) => Cause::FullDisk,
        ErrorCode::CannotOpen if is_full_disk => Cause::FullDisk,
        // The process has no memory, or can't create a temporary file, for example because it has no free file
        // descriptor (CannotOpen). The database file is not affected.
        ErrorCode::SystemIoFailure if matches!(code.extended_code, SQLITE_IOERR_NOMEM | SQLITE_IOERR_GETTEMPPATH) => {
            Cause::Other
        }
        ErrorCode::SystemIoFailure => Cause::FailedAccess,
        // SQLite reports a read that fails with EIO or ENXIO as damage.
        ErrorCode::DatabaseCorrupt if matches!(system_error.raw_os_error(), Some(libc::EIO | libc::ENXIO)) => {
            Cause::FailedAccess
        }
        // A reader gets `ReadOnly` only if its code writes, which must not end the server.
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ReadOnly => Cause::Damage,
        _ => Cause::Other,
    }
}

/// Returns whether SQLite can report the I/O error although no system call has failed. The error of the last system
/// call can then be old.
fn is_without_system_call(error: ffi::Error) -> bool {
    matches!(error.extended_code, SQLITE_IOERR_NOMEM | SQLITE_IOERR_SHORT_READ)
}

#[cfg(test)]
mod tests {
    use std::io;

    use libc::{EDQUOT, EFBIG, EINVAL, EIO, ENOSPC};
    use rusqlite::ffi::{Error as SqliteError, *};

    use super::Cause;

    fn classify(code: SqliteError, system_error: i32) -> Cause {
        super::classify(code, &io::Error::from_raw_os_error(system_error))
    }

    #[test]
    fn full_disk_is_recognized_under_every_sqlite_code() {
        for (code, system_error) in [
            (SQLITE_FULL, ENOSPC),
            // A partial write sets no error.
            (SQLITE_FULL, EINVAL),
            (SQLITE_IOERR_WRITE, EDQUOT),
            (SQLITE_IOERR_WRITE, EFBIG),
            (SQLITE_IOERR_FSYNC, ENOSPC),
            (SQLITE_IOERR_FSYNC, EDQUOT),
            (SQLITE_IOERR_SHMSIZE, ENOSPC),
            (SQLITE_IOERR_SHMSIZE, EFBIG),
            (SQLITE_IOERR_TRUNCATE, EFBIG),
            (SQLITE_CANTOPEN, ENOSPC),
        ] {
            assert_eq!(classify(SqliteError::new(code), system_error), Cause::FullDisk, "{code} {system_error}");
        }
    }

    #[test]
    fn other_failures_of_the_file_break_the_database() {
        for code in [SQLITE_IOERR_WRITE, SQLITE_IOERR_READ, SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHORT_READ] {
            assert_eq!(classify(SqliteError::new(code), EINVAL), Cause::FailedAccess, "{code}");
        }
        for code in [SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_READONLY] {
            assert_eq!(classify(SqliteError::new(code), EINVAL), Cause::Damage, "{code}");
        }
        assert_eq!(classify(SqliteError::new(SQLITE_CORRUPT), EIO), Cause::FailedAccess);
        // The error of the last system call is old, because these errors come without a system call.
        assert_eq!(classify(SqliteError::new(SQLITE_IOERR_SHORT_READ), ENOSPC), Cause::FailedAccess);
        assert_eq!(classify(SqliteError::new(SQLITE_CORRUPT), ENOSPC), Cause::Damage);
        assert_eq!(classify(SqliteError::new(SQLITE_IOERR_NOMEM), ENOSPC), Cause::Other);
        for code in [SQLITE_IOERR_GETTEMPPATH, SQLITE_CANTOPEN, SQLITE_CONSTRAINT] {
            assert_eq!(classify(SqliteError::new(code), EINVAL), Cause::Other, "{code}");
        }
        assert_eq!(classify(SqliteError::new(SQLITE_BUSY), ENOSPC), Cause::Busy);
    }
}
