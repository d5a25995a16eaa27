//! This module contains all code that is specific to SQLite. The module opens, locks and migrates the database file,
//! and owns the connections that read and write.

mod checkpoint;
mod errors;
mod file;
mod header;
mod log_check;
pub mod maintenance;
mod mark;
mod migrations;
mod open;
#[cfg(test)]
pub mod query_plans;
mod readers;
mod session;
mod space;
mod statements;
mod tx;
mod wal;

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use self::errors::{is_full_disk, sql_error};
pub(super) use self::open::open;
#[cfg(test)]
use self::open::open_writer;
pub(super) use self::session::SqliteWriter;
use self::tx::SqliteTx;
use super::OpenError;

/// Maximum number of statements in the cache of a connection. The server has fewer than 256 statements, so a reader
/// prepares each statement once. The writer keeps its statements in `KeptStatements`, and uses the cache only at the
/// start and for checkpoints.
const STATEMENT_CACHE: usize = 256;

/// Maximum time to wait while another program writes to the database file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the text `sqlite` and the version of the linked SQLite library for the GetServerInfo response.
pub fn version() -> String {
    format!("sqlite {}", rusqlite::version())
}

/// Configures a connection that only reads.
fn prepare_reader(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    prepare_statements(conn)
}

/// Configures how a connection prepares and caches its statements.
fn prepare_statements(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // A temporary file could be on another disk, and a full disk there must not count as a full disk of the database.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // Plan each statement once. Otherwise SQLite would plan a cached statement again for each execution in which a
    // parameter of a LIMIT clause, or of a comparison that an index can answer, has a different value.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Returns the flags that open a connection for reading only.
fn reader_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn statement_is_planned_once_for_all_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let writer = open_writer(&path).unwrap();
        let mut reader = Connection::open_with_flags(&path, reader_flags()).unwrap();
        prepare_reader(&mut reader).unwrap();
        for conn in [writer, reader] {
            let mut statement = conn.prepare("SELECT key FROM tasks WHERE key > $1 LIMIT $2").unwrap();
            for value in 1..5 {
                assert!(statement.query([value, value]).unwrap().next().unwrap().is_none());
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
