//! This module reads the header of a database file without SQLite, and checks that the file belongs to Runhub before
//! SQLite may change anything.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::OpenError;
use super::file::DatabaseFile;
use super::wal::read_u32;

/// Value of `PRAGMA application_id` in a database that no server has open: the letters `RHUB`.
pub const CLOSED_ID: i32 = 0x5248_5542;

/// Value of `PRAGMA application_id` in a database that a server has opened and has not closed: the letters `RHUO`. The
/// server writes the value before SQLite may write an existing log, so the value tells whether the log can belong to
/// the file.
pub const OPEN_ID: i32 = 0x5248_554f;

/// Value of `PRAGMA application_id` in a database without a mark: an old version of Runhub has written the database, or
/// a server is creating its first log. The database is recognized by its tables.
pub const UNMARKED_ID: i32 = 0;

/// First schema version whose servers write `OPEN_ID`.
const FIRST_MARKED_VERSION: u32 = 10;

/// Length of the header of an SQLite database.
const LENGTH: usize = 100;

/// First bytes of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Offset of the number that tells which programs can read the file, a byte.
const READ_VERSION_AT: usize = 19;

/// The number of a database that has a write-ahead log.
const READ_VERSION_OF_LOG: u8 = 2;

/// Offset of the user_version, a big-endian integer of 4 bytes.
const USER_VERSION_AT: usize = 60;

/// Offset of the application_id, a big-endian integer of 4 bytes.
const APPLICATION_ID_AT: usize = 68;

/// Tables that every version of Runhub has.
const TABLES: [&str; 4] = ["counters", "runs", "tasks", "events"];

/// The fields of the header of an SQLite database that Runhub reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    application_id: i32,
    user_version: u32,
    has_log: bool,
}

impl Header {
    /// Reads the header of a database file. Returns None if the file is empty. Fails if the file is not an SQLite
    /// database.
    pub fn read(file: &File, path: &Path) -> Result<Option<Self>, OpenError> {
        let unreadable = |cause: std::io::Error| OpenError::unreadable(path, cause);
        let length = file.metadata().map_err(unreadable)?.len();
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = [0; LENGTH];
        if length < LENGTH as u64 {
            return Err(OpenError::OtherFile(path.to_owned()));
        }
        file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
        if !bytes.starts_with(MAGIC) {
            return Err(OpenError::OtherFile(path.to_owned()));
        }
        Ok(Some(Self {
            application_id: read_u32(&bytes, APPLICATION_ID_AT).cast_signed(),
            user_version: read_u32(&bytes, USER_VERSION_AT),
            has_log: bytes[READ_VERSION_AT] == READ_VERSION_OF_LOG,
        }))
    }

    /// Writes the application_id into a database file, and waits until the file is on disk. The write changes 4 bytes
    /// in place, so it needs no free space on most file systems.
    pub fn write_application_id(file: &File, id: i32) -> std::io::Result<()> {
        file.write_all_at(&id.to_be_bytes(), APPLICATION_ID_AT as u64)?;
        file.sync_data()
    }

    /// Returns what the header tells about the write-ahead log.
    pub fn log_mark(self) -> LogMark {
        match self.application_id {
            OPEN_ID if self.has_log => LogMark::Open,
            // Older servers did not write `OPEN_ID`. Their backups have no log.
            CLOSED_ID if !self.has_log || self.user_version >= FIRST_MARKED_VERSION => LogMark::Closed,
            _ => LogMark::Unknown,
        }
    }
}

/// Tells what a database file says about its write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogMark {
    /// The file is empty, or all commits are in the file. A log with commits is the log of another file.
    Closed,
    /// A server has opened the database and has not closed it. The newest commits are in the log.
    Open,
    /// An old version of Runhub has written the file, or the first start of a server was interrupted.
    Unknown,
}

/// Describes a database file before SQLite opens the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// If the file is empty, or if its creation was interrupted, the value is true.
    pub is_new: bool,
    pub log_mark: LogMark,
    /// If SQLite keeps the newest commits in a write-ahead log, the value is true. A new database and a backup have no
    /// log.
    pub has_log: bool,
    /// The schema version, without the commits in the write-ahead log.
    pub user_version: u32,
}

/// Checks that a database file is empty or belongs to Runhub, without changing any file. Fails with `OtherFile`
/// otherwise. A database without a mark is recognized by its tables.
pub fn inspect(database: &DatabaseFile) -> Result<Inspection, OpenError> {
    let new = Inspection { is_new: true, log_mark: LogMark::Closed, has_log: false, user_version: 0 };
    if database.is_unfinished()? {
        return Ok(new);
    }
    let Some(header) = database.read_header()? else { return Ok(new) };
    match header.application_id {
        CLOSED_ID | OPEN_ID => {}
        UNMARKED_ID => check_tables(database)?,
        _ => return Err(OpenError::OtherFile(database.path().to_owned())),
    }
    let Header { user_version, has_log, .. } = header;
    Ok(Inspection { is_new: false, log_mark: header.log_mark(), has_log, user_version })
}

/// Checks that a database has the tables of Runhub or no table. The tables can be in the write-ahead log, if a server
/// ended soon after it had created the database.
fn check_tables(database: &DatabaseFile) -> Result<(), OpenError> {
    let unchanged = open_unchanged(database.path()).and_then(|conn| find_owner(&conn));
    let owner = match unchanged {
        Ok(Owner::Nobody) | Err(_) => {
            let conn = Connection::open_with_flags(database.path(), super::reader_flags());
            let owner = conn.and_then(|conn| find_owner(&conn));
            owner.map_err(|cause| OpenError::unreadable(database.path(), cause))?
        }
        Ok(owner) => owner,
    };
    match owner {
        Owner::Runhub | Owner::Nobody => Ok(()),
        Owner::OtherProgram => Err(OpenError::OtherFile(database.path().to_owned())),
    }
}

/// Tells whose tables a database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Runhub,
    OtherProgram,
    /// The database has no table.
    Nobody,
}

fn find_owner(conn: &Connection) -> rusqlite::Result<Owner> {
    Ok(match (count_tables(conn)?, is_runhub(conn)?) {
        (0, _) => Owner::Nobody,
        (_, true) => Owner::Runhub,
        (_, false) => Owner::OtherProgram,
    })
}

/// Opens a connection that reads only the database file, and that neither reads nor creates any other file.
fn open_unchanged(path: &Path) -> rusqlite::Result<Connection> {
    let flags = super::reader_flags() | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(unchanged_uri(path), flags)
}

/// Returns the URI that lets SQLite read a file as a file that never changes. All bytes of the path that have a meaning
/// in a URI are percent-encoded.
fn unchanged_uri(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(*byte)),
            // Writing to a string never fails.
            other => drop(write!(uri, "%{other:02X}")),
        }
    }
    uri + "?immutable=1"
}

/// Returns whether a database has the tables of Runhub.
pub fn is_runhub(conn: &Connection) -> rusqlite::Result<bool> {
    let mut statement = conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1")?;
    for table in TABLES {
        if !statement.exists([table])? {
            return Ok(false);
        }
    }
    conn.prepare("SELECT 1 FROM pragma_table_info('counters') WHERE name = 'log_id'")?.exists([])
}

/// Changes the application_id of an open database in a transaction. Changes nothing if the database has the
/// application_id.
pub fn set_application_id(conn: &Connection, id: i32) -> rusqlite::Result<()> {
    let found: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found == id { Ok(()) } else { conn.pragma_update(None, "application_id", id) }
}

/// Returns whether a database has no table and no application_id.
pub fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    let id: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok(id == UNMARKED_ID && count_tables(conn)? == 0)
}

fn count_tables(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))
}

#[cfg(test)]
mod tests;
