//! This module reads the header of a database file without SQLite, and checks that the file belongs to Runhub before
//! SQLite may change anything.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::OpenError;
use super::file::DatabaseFile;

/// Value of `PRAGMA application_id` in Runhub's databases: the letters `RHUB`.
pub const APPLICATION_ID: i32 = 0x5248_5542;

/// Length of the header of an SQLite database.
const LENGTH: usize = 100;

/// First bytes of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Offset of the application_id, a big-endian integer of 4 bytes.
const APPLICATION_ID_AT: u64 = 68;

/// Tables that every version of Runhub has.
const TABLES: [&str; 4] = ["counters", "runs", "tasks", "events"];

/// The fields of the header of an SQLite database that Runhub reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    application_id: i32,
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
        let mut magic = [0; MAGIC.len()];
        let mut application_id = [0; 4];
        if length < LENGTH as u64 || file.read_exact_at(&mut magic, 0).is_err() || magic != MAGIC {
            return Err(OpenError::OtherFile(path.to_owned()));
        }
        file.read_exact_at(&mut application_id, APPLICATION_ID_AT).map_err(unreadable)?;
        Ok(Some(Self { application_id: i32::from_be_bytes(application_id) }))
    }
}

/// Describes the content of the database file before SQLite applies the write-ahead log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inspection {
    /// If the file is empty, the value is true.
    pub is_new: bool,
    /// If a server has opened the database and has not closed it, the value is true. In this case, the newest commits
    /// are in the write-ahead log.
    pub is_open: bool,
}

/// Checks that a database file is empty or belongs to Runhub, without changing any file. Fails with `OtherFile`
/// otherwise. A database of an old version of Runhub has the application_id 0 and is recognized by its tables.
pub fn inspect(database: &DatabaseFile) -> Result<Inspection, OpenError> {
    let Some(header) = database.read_header()? else { return Ok(Inspection { is_new: true, is_open: false }) };
    match header.application_id {
        APPLICATION_ID => {}
        0 => check_tables(database)?,
        _ => return Err(OpenError::OtherFile(database.path().to_owned())),
    }
    // If a server ended during a checkpoint, the database file alone is damaged, and the write-ahead log repairs it.
    let is_open = open_unchanged(database.path()).and_then(|conn| read_is_open(&conn));
    Ok(Inspection { is_new: false, is_open: is_open.unwrap_or(false) })
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

/// Returns the application_id that the open database has, including the write-ahead log.
pub fn read_application_id(conn: &Connection) -> rusqlite::Result<i32> {
    conn.pragma_query_value(None, "application_id", |row| row.get(0))
}

fn count_tables(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))
}

/// Returns whether a server has opened the database and has not closed it. Databases of versions before 9 do not store
/// this.
fn read_is_open(conn: &Connection) -> rusqlite::Result<bool> {
    let column = "SELECT 1 FROM pragma_table_info('counters') WHERE name = 'is_open'";
    if !conn.prepare(column)?.exists([])? {
        return Ok(false);
    }
    let is_open = conn.query_row("SELECT is_open FROM counters", [], |row| row.get(0)).optional()?;
    Ok(is_open.unwrap_or(false))
}

/// Stores in a database of any schema version that no server has the database open.
pub fn store_closed(conn: &Connection) -> rusqlite::Result<()> {
    if read_is_open(conn)? {
        conn.execute("UPDATE counters SET is_open = 0", [])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
