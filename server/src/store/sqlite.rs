//! What is SQLite's own: opening, locking and migrating the file, and running statements on a connection.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags, ToSql, Transaction};
use rusqlite_migration::{HookError, HookResult, M, MigrationDefinitionError, Migrations};

use super::counters::{self, Counters};
use super::{Columns, Each, Row, Signal, SqlValue, Tx, path_sets};
use crate::clock::{self, Clock, Ids, SystemClock};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// Before 3.51.3 a commit could be lost when a checkpoint ran beside it.
const OLDEST_SQLITE: i32 = 3_051_003;

/// More than the statements there are: each is prepared once a connection.
const STATEMENTS: usize = 256;

/// How long to wait while another program writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The schema, step by step.
fn migrations() -> Migrations<'static> {
    Migrations::new(vec![
        M::up(include_str!("../../migrations/sqlite/0001_initial.sql")),
        M::up_with_hook(include_str!("../../migrations/sqlite/0002_coordination.sql"), declare_paths),
        M::up(include_str!("../../migrations/sqlite/0003_retention.sql")),
        M::up(include_str!("../../migrations/sqlite/0004_paused_runs.sql")),
        M::up(include_str!("../../migrations/sqlite/0005_claim_order.sql")),
    ])
}

/// What a database from before says of paths holds from now on.
fn declare_paths(migration: &Transaction) -> HookResult {
    let failed = |cause: Error| HookError::Hook(cause.to_string());
    let ids = Ids::new();
    let mut reader = SqliteTx::new(migration, &SystemClock, &ids, None);
    let Some(counters) = counters::load(&mut reader).map_err(failed)? else { return Ok(()) };
    let counted = Cell::new(Counted { position: counters.last_position, key: counters.last_key });
    let mut tx = SqliteTx::new(migration, &SystemClock, &ids, Some(&counted));
    path_sets::declare_all(&mut tx).map_err(failed)?;
    let Counted { position, key } = counted.get();
    counters::save(&mut tx, position, key).map_err(failed)
}

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("another runhub has {} open: stop it first, or take another --db", .0.display())]
    InUse(PathBuf),
    #[error("{} was written by a newer runhub than this one: use that one, or take another --db", .0.display())]
    TooNew(PathBuf),
    #[error("SQLite {0} can lose commits: 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    #[error("can't open {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
}

impl OpenError {
    pub(super) fn at(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// What the store is, for GetServerInfo.
pub fn version() -> String {
    format!("sqlite {}", rusqlite::version())
}

/// Takes `PATH.lock`, which its holder keeps until it ends, however it ends. PATH is the file itself, by whatever
/// name it was called.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|cause| OpenError::at(Path::new(&name), cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(cause)) => Err(OpenError::at(Path::new(&name), cause)),
    }
}

/// The connection that writes, on a database with the newest schema.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    check_sqlite(rusqlite::version_number())?;
    let at = |cause: rusqlite::Error| OpenError::at(path, cause);
    let mut conn = Connection::open(path).map_err(at)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(at)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(at)?;
    if mode != "wal" {
        return Err(OpenError::at(path, format!("its journal_mode stays {mode}, not WAL")));
    }
    conn.pragma_update(None, "synchronous", "FULL").map_err(at)?;
    conn.pragma_update(None, "foreign_keys", "ON").map_err(at)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    migrations().to_latest(&mut conn).map_err(|cause| match cause {
        rusqlite_migration::Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            OpenError::TooNew(path.to_owned())
        }
        other => OpenError::at(path, other),
    })?;
    Ok(conn)
}

fn check_sqlite(version: i32) -> Result<(), OpenError> {
    if version < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    Ok(())
}

/// Sets up a connection that only reads.
pub(super) fn prepare_reader(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// How connections that only read are opened.
pub(super) fn reader_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Reads what was counted so far, in a new database after making its first row.
pub(super) fn prepare(conn: &Connection, clock: &dyn Clock) -> Result<Counters, OpenError> {
    let failed = |cause: Error| OpenError::at(Path::new(conn.path().unwrap_or_default()), cause);
    let ids = Ids::new();
    let mut tx = SqliteTx::new(conn, clock, &ids, None);
    counters::load_or_create(&mut tx).map_err(failed)
}

/// A transaction on one connection; who made it begins and ends it.
pub(super) struct SqliteTx<'a> {
    conn: &'a Connection,
    now: Timestamp,
    ids: &'a Ids,
    /// None where only reading is allowed.
    counters: Option<&'a Cell<Counted>>,
    has_written: bool,
    signals: Vec<Signal>,
}

/// The numbers given out so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub position: i64,
    pub key: Key,
}

impl<'a> SqliteTx<'a> {
    pub fn new(conn: &'a Connection, clock: &dyn Clock, ids: &'a Ids, counters: Option<&'a Cell<Counted>>) -> Self {
        Self { conn, now: clock.now(), ids, counters, has_written: false, signals: Vec::new() }
    }

    /// What is to be said once it is committed.
    pub fn into_signals(self) -> Vec<Signal> {
        self.signals
    }

    fn statement(&self, sql: &str, params: &[SqlValue]) -> Result<CachedStatement<'a>> {
        let mut statement = self.conn.prepare_cached(sql).map_err(sql_error)?;
        for (name, value) in PARAMETERS.iter().zip(params) {
            let index = statement.parameter_index(name).map_err(sql_error)?;
            let index = index.ok_or_else(|| Error::internal(format!("no parameter {name} in {sql}")))?;
            statement.raw_bind_parameter(index, value).map_err(sql_error)?;
        }
        Ok(statement)
    }

    fn count(&self, step: impl Fn(&mut Counted) -> i64) -> Result<i64> {
        let cell = self.counters.ok_or_else(|| Error::internal("a reader can't make rows"))?;
        let mut counted = cell.get();
        let number = step(&mut counted);
        cell.set(counted);
        Ok(number)
    }
}

/// `$n` is a name to SQLite, not a number: it is looked up.
const PARAMETERS: [&str; 32] = [
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$16", "$17",
    "$18", "$19", "$20", "$21", "$22", "$23", "$24", "$25", "$26", "$27", "$28", "$29", "$30", "$31", "$32",
];

impl Tx for SqliteTx<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn new_id(&self) -> String {
        self.ids.next(self.now)
    }

    fn new_token(&self) -> String {
        clock::new_token()
    }

    fn next_key(&mut self) -> Result<Key> {
        self.count(|counted| {
            counted.key += 1;
            counted.key
        })
    }

    fn next_position(&mut self) -> Result<i64> {
        self.count(|counted| {
            counted.position += 1;
            counted.position
        })
    }

    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
    }

    fn has_written(&self) -> bool {
        self.has_written
    }

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        let changed = self.statement(sql, params)?.raw_execute().map_err(sql_error)?;
        self.has_written |= changed > 0;
        Ok(changed as u64)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], each: Each) -> Result<()> {
        let mut statement = self.statement(sql, params)?;
        // What returns rows and is no SELECT (UPDATE … RETURNING) has written.
        self.has_written |= !statement.readonly();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(sql_error)? {
            if each(&mut Columns::new(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Row for rusqlite::Row<'_> {
    fn value(&self, at: usize) -> Result<SqlValue<'_>> {
        match self.get_ref(at).map_err(sql_error)? {
            ValueRef::Null => Ok(SqlValue::Null),
            ValueRef::Integer(number) => Ok(SqlValue::Int(number)),
            ValueRef::Text(text) => std::str::from_utf8(text).map(SqlValue::Text).map_err(Error::internal),
            ValueRef::Blob(blob) => Ok(SqlValue::Blob(blob)),
            ValueRef::Real(number) => Err(Error::internal(format!("a column holds {number}"))),
        }
    }
}

impl ToSql for SqlValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            SqlValue::Null => ValueRef::Null,
            SqlValue::Int(number) => ValueRef::Integer(*number),
            SqlValue::Text(text) => ValueRef::Text(text.as_bytes()),
            SqlValue::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

/// Only a lock held by another program is worth the same call again.
pub(super) fn sql_error(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Error::StoreBusy,
        _ => Error::internal(format!("SQLite: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Limit, Store, events, tasks};

    #[test]
    fn the_migrations_are_sound() {
        migrations().validate().unwrap();
    }

    /// A database as the first version left it: what it holds is there, and its paths hold from now on.
    #[tokio::test]
    async fn a_database_from_before_comes_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(include_str!("../../migrations/sqlite/0001_initial.sql")).unwrap();
        conn.execute_batch(
            "INSERT INTO counters VALUES (1, 5, 7, 'log');
            INSERT INTO runs VALUES (1, 'run', 'g', '/repo', '{}', 2, NULL, 0, 0, 0, NULL, 1, 0, 0);
            INSERT INTO run_counters VALUES (1, 0, 2, 0);
            INSERT INTO tasks VALUES (2, 'held', 1, 1, 't', '', '[]', '[]', '[\"src\"]', '[]', '[]', 0, '{}', 0, NULL, 2, 1,
                0, NULL, NULL, 'agent', 'token', 0, 0, 2, 0, 0);
            INSERT INTO tasks VALUES (3, 'next', 1, 2, 't', '', '[]', '[]', '[\"src/a\", \"/no/glob\"]', '[]', '[]', 0, '{}', 0,
                NULL, 1, 0, 0, NULL, NULL, NULL, NULL, 0, 0, 1, 0, 0);
            INSERT INTO events VALUES (5, 1, 1, 2, 'system', 'task_claimed', 'm', '{}', 0);
            PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(conn);
        let store = Store::open(&path, Arc::new(SystemClock), Box::new(|_| {})).unwrap();
        let (held, next) = store.read(|tx| Ok((tasks::get(tx, "held")?, tasks::get(tx, "next")?))).await.unwrap();
        assert_eq!(held.lease.map(|lease| lease.duration), Some(Duration::from_secs(600)));
        assert_eq!((held.path_set_key, next.path_set_key), (Some(8), Some(9)));
        assert_eq!(store.log_id(), "log");
        let found = store.read(|tx| events::scan(tx, &events::Scan::default(), Limit { rows: 9, bytes: 999 })).await;
        let event = found.unwrap().events.remove(0);
        assert_eq!((event.position, event.run_id.as_str(), event.task_id.as_deref()), (5, "run", Some("held")));
    }

    /// There were two forms of 0004: whichever a database has had, it is the same in the end.
    #[test]
    fn both_databases_of_version_4_come_through() {
        for before in ["PRAGMA user_version = 4", "PRAGMA user_version = 4; DROP INDEX tasks_waiting"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("db");
            open_writer(&path).unwrap().execute_batch(before).unwrap();
            let index = "SELECT name FROM sqlite_master WHERE name = 'tasks_waiting'";
            let found: String = open_writer(&path).unwrap().query_row(index, (), |row| row.get(0)).unwrap();
            assert_eq!(found, "tasks_waiting", "{before}");
        }
    }

    #[test]
    fn a_sqlite_that_can_lose_commits_is_refused() {
        assert!(check_sqlite(OLDEST_SQLITE).is_ok());
        assert!(matches!(check_sqlite(OLDEST_SQLITE - 1), Err(OpenError::OldSqlite(_))));
    }
}
