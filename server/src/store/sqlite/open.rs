//! This module opens a database: it checks, locks and migrates the database file, and opens the connections.

use std::path::Path;
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::errors::{file_error, sql_error};
use super::file::{DatabaseFile, WalFile};
use super::log_check::{self, NewestCommits};
use super::session::{OpenFiles, SqliteWriter};
use super::tx::SqliteTx;
use super::{BUSY_TIMEOUT, OpenError, checkpoint, header, mark, migrations, prepare_statements, readers, space};
use crate::clock::{Clock, IdGenerator};
use crate::domain::time::ClockStep;
use crate::error::Error;
use crate::store::counters::{self, Counters, LogEnd};
use crate::store::read_gate::ReadGate;
use crate::store::readers::Readers;
use crate::store::session::LastAssigned;
use crate::store::{due, path_sets};

/// Oldest accepted version number of SQLite (3.51.3). Earlier versions can lose a commit that runs at the same time as
/// a checkpoint.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Holds an open database file and the connections to the file.
pub(in crate::store) struct Database {
    /// The only connection that writes.
    pub writer: SqliteWriter,
    /// Pool of the connections that read.
    pub readers: Readers,
    /// Last position and key that committed transactions have assigned.
    pub last_assigned: LastAssigned,
    /// Identifier of this database. A cursor is valid only for one log_id.
    pub log_id: String,
}

/// Checks and locks a database file, creates or migrates the database schema, and opens the connections. Returns the
/// open database. Fails if another server has the database file open, if the file belongs to another program, if a
/// newer version of Runhub has migrated the database, if the linked SQLite version can lose commits, or if the database
/// file can't be read or written.
pub(in crate::store) fn open(path: &Path, clock: &Arc<dyn Clock>) -> Result<Database, OpenError> {
    let file = Arc::new(DatabaseFile::open(path)?);
    let commits = prepare_file(&file).inspect_err(|_| file.remove_if_created())?;
    let conn = open_writer(file.path())?;
    let unreadable = |cause: Error| OpenError::from_store(file.path(), &cause);
    // A database that had no log does not have the mark yet.
    WalFile::create(&file).map_err(file_error).map_err(unreadable)?;
    file.write_mark(header::OPEN_ID).map_err(file_error).map_err(unreadable)?;
    let ids = IdGenerator::new();
    let mut counters = prepare_rows(&conn, clock.as_ref(), &ids).map_err(unreadable)?;
    if commits == NewestCommits::DamagedLog {
        counters = start_new_log(&conn, clock.as_ref(), &ids, &counters).map_err(unreadable)?;
    }
    let wal = WalFile::open(&file)?.ok_or_else(|| OpenError::unreadable(file.path(), "it has no write-ahead log"))?;
    let gate = Arc::<ReadGate>::default();
    let readers = readers::open(Arc::clone(&file), Arc::clone(&gate), Arc::clone(clock))?;
    let files = OpenFiles { wal, database: Arc::clone(&file), gate };
    let writer = SqliteWriter::new(conn, files, Arc::clone(clock), ids, counters.last_assigned).map_err(unreadable)?;
    Ok(Database { writer, readers, last_assigned: counters.last_assigned, log_id: counters.log_id })
}

/// Checks the files of a database without SQLite, marks an existing database file as open, and reports lost commits.
/// Fails if the files do not belong together or to Runhub, and if another server uses the write-ahead log.
fn prepare_file(file: &DatabaseFile) -> Result<NewestCommits, OpenError> {
    check_sqlite(rusqlite::version_number())?;
    let inspection = header::inspect(file)?;
    let log = WalFile::open(file)?;
    let commits = log_check::check(file.path(), inspection.log_mark, log.as_ref().map(WalFile::file))?;
    report_lost_commits(file.path(), commits);
    if inspection.is_new {
        check_empty(file.path())?;
    } else {
        migrations::check_version_number(inspection.user_version, file.path())?;
        mark::prepare(file, inspection).map_err(|cause| OpenError::from_store(file.path(), &file_error(cause)))?;
    }
    Ok(commits)
}

/// Lets SQLite undo an interrupted transaction of the creation of a database. Fails if the file is then the database of
/// another program.
fn check_empty(path: &Path) -> Result<(), OpenError> {
    let unreadable = |cause: rusqlite::Error| OpenError::from_sqlite(path, &cause);
    let conn = Connection::open_with_flags(path, writer_flags()).map_err(unreadable)?;
    if header::is_empty(&conn).map_err(unreadable)? { Ok(()) } else { Err(OpenError::OtherFile(path.to_owned())) }
}

fn report_lost_commits(db: &Path, commits: NewestCommits) {
    let db = db.display();
    match commits {
        NewestCommits::Present => {}
        NewestCommits::MissingLog => tracing::error!(
            %db,
            "the write-ahead log is missing, although no server has closed the database: the newest commits are lost, \
            unless another program has opened the database since. If they are lost, run `runhub reset-log-id`, so that \
            clients do not miss events"
        ),
        NewestCommits::DamagedLog => tracing::error!(
            %db, "the write-ahead log is damaged: commits are lost. The database gets a new log_id"
        ),
    }
}

/// Gives the database a new log_id, because commits were lost: a cursor could otherwise skip the events that get the
/// positions of the lost events. Removes the damaged log, so that the next start does not find the damage again. If
/// another program reads the log, the damage stays.
fn start_new_log(
    conn: &Connection,
    clock: &dyn Clock,
    ids: &IdGenerator,
    counters: &Counters,
) -> Result<Counters, Error> {
    let transaction = conn.unchecked_transaction().map_err(sql_error)?;
    let mut tx = SqliteTx::new(conn, clock, ids, Some(counters.last_assigned));
    let old = LogEnd { log_id: counters.log_id.clone(), last_position: counters.last_assigned.position };
    counters::start_new_log(&mut tx, &old)?;
    let counters = counters::load_or_create(&mut tx)?;
    transaction.commit().map_err(sql_error)?;
    match checkpoint::empty_log(conn).map_err(sql_error) {
        Err(Error::StoreBusy) => {
            tracing::warn!("can't remove the damaged write-ahead log, because another program reads the log");
        }
        other => other?,
    }
    Ok(counters)
}

/// Creates the row of the table `counters` in a new database, removes unused path sets, and follows the clock. Returns
/// the counters.
fn prepare_rows(conn: &Connection, clock: &dyn Clock, ids: &IdGenerator) -> Result<Counters, Error> {
    let mut tx = SqliteTx::new(conn, clock, ids, None);
    let mut counters = counters::load_or_create(&mut tx)?;
    path_sets::remove_unused(&mut tx)?;
    follow_clock_set_back(conn, clock, ids, &mut counters)?;
    Ok(counters)
}

/// Moves the ends of all durations if the clock was set back while no server ran. Otherwise a lease or a retry delay
/// would last longer by the step. If the clock was set forward, the time counts as passed.
fn follow_clock_set_back(
    conn: &Connection,
    clock: &dyn Clock,
    ids: &IdGenerator,
    counters: &mut Counters,
) -> Result<(), Error> {
    let step = ClockStep::between(counters.last_commit_time, clock.now());
    if step >= ClockStep::NONE {
        return Ok(());
    }
    let transaction = conn.unchecked_transaction().map_err(sql_error)?;
    let mut tx = SqliteTx::new(conn, clock, ids, Some(counters.last_assigned));
    due::move_durations(&mut tx, step)?;
    counters.last_assigned = tx.last_assigned().unwrap_or(counters.last_assigned);
    counters::save(&mut tx, counters.last_assigned)?;
    transaction.commit().map_err(sql_error)?;
    tracing::warn!(step_seconds = step.size().as_secs(), "the clock was set back while no server ran");
    Ok(())
}

/// Opens the connection that writes, migrates the schema to the newest version, and returns the connection. Fails if
/// the linked SQLite version can lose commits, if a newer version of Runhub has migrated the database, or if the
/// database file can't be read or written.
pub(in crate::store) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let unreadable = |cause: rusqlite::Error| OpenError::from_sqlite(path, &cause);
    let mut conn = Connection::open_with_flags(path, writer_flags()).map_err(unreadable)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(unreadable)?;
    // Closing the connection must not touch the write-ahead log, unless `close` has checked that the log still belongs
    // to the database.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(unreadable)?;
    space::prepare_new(&conn).map_err(unreadable)?;
    let mode: String =
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(unreadable)?;
    if mode != "wal" {
        return Err(OpenError::unreadable(path, format!("its journal_mode stays {mode} and can't be set to WAL")));
    }
    conn.pragma_update(None, "synchronous", "FULL").map_err(unreadable)?;
    conn.pragma_update(None, "foreign_keys", "ON").map_err(unreadable)?;
    prepare_statements(&conn).map_err(unreadable)?;
    // The first page can be in the write-ahead log, with another mark. The next checkpoint must not copy that mark.
    header::set_application_id(&conn, header::OPEN_ID).map_err(unreadable)?;
    migrations::migrate(&mut conn, path)?;
    // Migrate first, so that a large migration is copied into the database file before the server answers calls.
    checkpoint::configure(&conn).map_err(unreadable)?;
    Ok(conn)
}

/// Returns the flags of the connection that writes. SQLite must not read the path as a URI, because a URI can select
/// another file or turn off the locks.
fn writer_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

pub(super) fn check_sqlite(version: i32) -> Result<(), OpenError> {
    if version < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_that_can_lose_commits_is_refused() {
        assert!(check_sqlite(OLDEST_SQLITE).is_ok());
        assert!(matches!(check_sqlite(OLDEST_SQLITE - 1), Err(OpenError::OldSqlite(_))));
    }
}
