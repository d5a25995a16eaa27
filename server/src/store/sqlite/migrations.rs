//! This module migrates the database schema in numbered steps. `PRAGMA user_version` stores the number of the last step
//! that was applied to a database.

use std::path::Path;

use rusqlite::{Connection, Transaction};
use rusqlite_migration::{HookError, HookResult, M, MigrationDefinitionError, Migrations};

use super::{OpenError, SqliteTx, is_full_disk};
use crate::clock::{IdGenerator, SystemClock};
use crate::error::Error;
use crate::store::migrations::MIGRATIONS;
use crate::store::{capability_sets, counters, path_sets};

/// Number of the migration with which `insert_missing_sets` runs.
const MISSING_SETS: usize = 8;

/// Returns all migration steps, oldest first.
fn list_steps() -> Vec<M<'static>> {
    let steps = MIGRATIONS.iter().zip(1..).map(|(sql, number)| match number {
        MISSING_SETS => M::up_with_hook(sql, insert_missing_sets),
        _ => M::up(sql),
    });
    steps.collect()
}

fn build_migrations() -> Migrations<'static> {
    Migrations::new(list_steps())
}

/// Applies all migration steps that the database has not applied yet. Fails if a newer version of Runhub has migrated
/// the database further, or if a step fails.
pub fn migrate(conn: &mut Connection, path: &Path) -> Result<(), OpenError> {
    build_migrations().to_latest(conn).map_err(|cause| match cause {
        rusqlite_migration::Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            OpenError::TooNew(path.to_owned())
        }
        rusqlite_migration::Error::RusqliteError { err, .. } if is_full_disk(&err) => {
            OpenError::FullDisk(path.to_owned())
        }
        other => OpenError::unreadable(path, other),
    })
}

/// Fails if a newer version of Runhub has migrated the database. The function changes nothing.
pub fn check_version(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    match build_migrations().pending_migrations(conn) {
        Ok(0..) => Ok(()),
        Ok(_) => Err(OpenError::TooNew(path.to_owned())),
        Err(cause) => Err(OpenError::unreadable(path, cause)),
    }
}

/// Fails if `version`, the schema version in the header of a database file, is newer than this version of Runhub.
pub fn check_version_number(version: u32, path: &Path) -> Result<(), OpenError> {
    let newest = list_steps().len();
    if usize::try_from(version).is_ok_and(|version| version <= newest) {
        return Ok(());
    }
    Err(OpenError::TooNew(path.to_owned()))
}

/// Inserts path sets for the tasks of schema version 1, and capability sets for the tasks of schema versions before 6.
/// The sets are inserted in a later step than the step that created their tables, because the statements of the store
/// need the newest columns of the tables that they use. If a later step adds a column to one of these tables, move the
/// hook to that step.
fn insert_missing_sets(migration: &Transaction) -> HookResult {
    let failed = |cause: Error| HookError::Hook(cause.to_string());
    let ids = IdGenerator::new();
    let clock = SystemClock::new();
    let mut reading = SqliteTx::new(&**migration, &clock, &ids, None);
    let Some(counters) = counters::load(&mut reading).map_err(failed)? else { return Ok(()) };
    let mut tx = SqliteTx::new(&**migration, &clock, &ids, Some(counters.last_assigned));
    path_sets::insert_missing(&mut tx).map_err(failed)?;
    capability_sets::insert_missing(&mut tx).map_err(failed)?;
    let last_assigned = tx.last_assigned().unwrap_or(counters.last_assigned);
    counters::save(&mut tx, last_assigned).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rusqlite::types::Value;

    use super::super::open_writer;
    use super::*;
    use crate::store::{Limit, Store, events, tasks};

    #[test]
    fn migrations_are_valid() {
        build_migrations().validate().unwrap();
    }

    #[tokio::test]
    async fn database_of_version_1_keeps_its_rows_and_gets_path_sets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(include_str!("../../../migrations/0001_initial.sql")).unwrap();
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
        let store = Store::open(&path, Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
        let (held, next) = store.read(|tx| Ok((tasks::get(tx, "held")?, tasks::get(tx, "next")?))).await.unwrap();
        assert_eq!(held.lease.map(|lease| lease.duration), Some(Duration::from_secs(600)));
        assert_eq!((held.path_set_key, next.path_set_key), (Some(8), Some(9)));
        assert_eq!(store.log_id(), "log");
        let found = store.read(|tx| events::scan(tx, &events::Scan::default(), Limit { rows: 9, bytes: 999 })).await;
        let event = found.unwrap().events.remove(0);
        assert_eq!((event.position, event.run_id.as_str(), event.task_id.as_deref()), (5, "run", Some("held")));
    }

    /// Oldest schema version of which a fixture exists. Before you add a migration step, commit a small database of the
    /// version before the step as `fixtures/version_N.db`.
    const OLDEST_FIXTURE: i64 = 7;

    /// Columns that a later step has removed.
    const REMOVED: [(&str, &str); 1] = [("counters", "is_open")];

    fn read_columns(conn: &Connection, table: &str) -> Vec<String> {
        let mut statement = conn.prepare("SELECT name FROM pragma_table_info($1)").unwrap();
        statement.query_map([table], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn read_rows(conn: &Connection, table: &str, columns: &[String]) -> Vec<Vec<Value>> {
        let mut statement =
            conn.prepare(&format!("SELECT {} FROM {table} ORDER BY rowid", columns.join(", "))).unwrap();
        let read = |row: &rusqlite::Row| (0..columns.len()).map(|at| row.get(at)).collect();
        statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn list_tables(conn: &Connection) -> Vec<String> {
        let mut statement = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_older_database_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let newest = open_writer(&folder.path().join("db")).unwrap();
        let newest: i64 = newest.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        for version in OLDEST_FIXTURE..newest {
            let fixture = format!("{}/migrations/fixtures/version_{version}.db", env!("CARGO_MANIFEST_DIR"));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("db");
            std::fs::copy(&fixture, &path).unwrap_or_else(|error| panic!("{fixture}: {error}"));
            let old = Connection::open(&path).unwrap();
            let tables = list_tables(&old).into_iter().map(|table| {
                let mut columns = read_columns(&old, &table);
                columns.retain(|column| !REMOVED.contains(&(&table, column)));
                let rows = read_rows(&old, &table, &columns);
                (table, columns, rows)
            });
            let tables: Vec<_> = tables.collect();
            assert!(tables.iter().filter(|(_, _, rows)| !rows.is_empty()).count() >= 12, "the fixture has few rows");
            drop(old);
            let new = open_writer(&path).unwrap();
            for (table, columns, rows) in tables {
                assert_eq!(read_rows(&new, &table, &columns), rows, "{table} of version {version}");
            }
            let check: String = new.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(check, "ok");
            assert!(!new.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap());
        }
    }

    #[test]
    fn delays_of_failed_tasks_of_version_7_are_retry_delays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        std::fs::write(&path, include_bytes!("../../../migrations/fixtures/version_7.db")).unwrap();
        let conn = open_writer(&path).unwrap();
        let mut statement = conn.prepare("SELECT title FROM tasks WHERE has_retry_delay = 1").unwrap();
        let titles = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<Vec<String>, _>>();
        assert_eq!(titles.unwrap(), ["Fail"]);
    }

    /// Migration step 4 has existed in two forms. A database that has applied either form must get the complete schema.
    #[test]
    fn databases_of_both_forms_of_version_4_get_all_indexes() {
        let index = "CREATE INDEX tasks_waiting ON tasks (run_key, priority DESC, ordinal)
            WHERE status = 1 AND open_dependencies > 0";
        for before in ["", index] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("db");
            let mut conn = Connection::open(&path).unwrap();
            build_migrations().to_version(&mut conn, 4).unwrap();
            conn.execute_batch(before).unwrap();
            drop(conn);
            let index = "SELECT name FROM sqlite_master WHERE name = 'tasks_pending'";
            let found: String = open_writer(&path).unwrap().query_row(index, (), |row| row.get(0)).unwrap();
            assert_eq!(found, "tasks_pending", "{before}");
        }
    }
}
