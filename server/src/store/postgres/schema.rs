//! This module creates and migrates the tables in a PostgreSQL database.

use super::PostgresTx;
use super::address::PostgresAddress;
use super::connection::Connection;
use crate::clock::{Clock, IdGenerator, SystemClock};
use crate::error::{Error, Result};
use crate::store::migrations::MIGRATIONS;
use crate::store::{Tx, any, counters, first, params};

/// Version of the schema that this server needs.
pub(super) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// The statements that create the tables and columns that only PostgreSQL needs.
const OWN_TABLES: &str = include_str!("../../../migrations/postgres.sql");

/// The differences between the SQL of SQLite and of PostgreSQL. All other statements are equal.
const SUBSTITUTIONS: [(&str, &str); 5] = [
    ("INTEGER", "BIGINT"),
    ("BLOB", "BYTEA"),
    // Free space on each page lets PostgreSQL update a row without an update of its indexes.
    (") STRICT;", ") WITH (fillfactor = 85);"),
    // SQLite compares texts by their bytes.
    (" TEXT", " TEXT COLLATE \"C\""),
    // SQLite sorts NULL before all other values.
    ("path_set_key, priority DESC", "path_set_key NULLS FIRST, priority DESC"),
];

fn to_postgres(sql: &str) -> String {
    SUBSTITUTIONS.iter().fold(sql.to_owned(), |sql, (sqlite, postgres)| sql.replace(sqlite, postgres))
}

/// Number of attempts to create the tables. If two servers create the tables at the same time, one of them fails.
const ATTEMPTS: usize = 3;

/// The versions of a schema before and after a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version before the migration, or None if the database had no tables.
    pub from: Option<i64>,
    /// The version after the migration.
    pub to: i64,
}

/// Creates or migrates the tables. If a newer version of Runhub has migrated the database, changes nothing.
pub(super) fn migrate(connection: &mut Connection, address: &PostgresAddress) -> Result<Migrated> {
    let mut attempt = 1;
    loop {
        match try_migrate(connection, address) {
            Err(Error::Internal(_)) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn try_migrate(connection: &mut Connection, address: &PostgresAddress) -> Result<Migrated> {
    let version = read_version(connection, address)?;
    if let Some(newest) = version.filter(|version| *version >= SCHEMA_VERSION) {
        return Ok(Migrated { from: version, to: newest });
    }
    connection.run_script("BEGIN")?;
    let migrated = migrate_from(connection, address, version);
    connection.forget_failure();
    connection.run_script(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    Ok(Migrated { from: version, to: migrated? })
}

/// Applies the migrations after `version`, and returns the version afterwards. The version can be newer than the version of
/// this server, if another server has migrated the database since `version` was read.
fn migrate_from(connection: &mut Connection, address: &PostgresAddress, version: Option<i64>) -> Result<i64> {
    let applied = match version {
        None => {
            connection.run_script(&format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", address.schema()))?;
            0
        }
        // The lock waits for the transactions of other servers, and for another server that migrates.
        Some(_) => lock_version(connection)?,
    };
    if applied >= SCHEMA_VERSION {
        return Ok(applied);
    }
    let pending = MIGRATIONS.iter().skip(usize::try_from(applied).unwrap_or(usize::MAX));
    for migration in pending {
        connection.run_script(&to_postgres(migration))?;
    }
    if version.is_none() {
        connection.run_script(&to_postgres(OWN_TABLES))?;
    }
    with_tx(connection, |tx| {
        counters::load_or_create(tx)?;
        tx.execute("UPDATE counters SET schema_version = $1", params![SCHEMA_VERSION]).map(drop)
    })?;
    Ok(SCHEMA_VERSION)
}

fn lock_version(connection: &mut Connection) -> Result<i64> {
    let sql = "SELECT schema_version FROM counters FOR UPDATE";
    with_tx(connection, |tx| Ok(first(tx, sql, &[], |row| row.take())?.unwrap_or(0)))
}

/// Returns the version of the schema, or None if the database has no tables of Runhub.
pub(super) fn read_version(connection: &mut Connection, address: &PostgresAddress) -> Result<Option<i64>> {
    let exists = "SELECT tablename FROM pg_tables WHERE CAST(schemaname AS TEXT) = $1 AND tablename = 'counters'";
    let schema = address.schema();
    with_tx(connection, |tx| {
        if !any(tx, exists, params![schema])? {
            return Ok(None);
        }
        first(tx, "SELECT schema_version FROM counters", &[], |row| row.take())
    })
}

/// Distance from the last numbers of a database to the next numbers after the promotion of a standby. The standby may
/// not have the newest transactions, and clients may have received their positions.
const PROMOTION_JUMP: i64 = 1 << 20;

/// If the database has another timeline than at the last connection, skips the numbers that lost transactions may have
/// assigned. Fails if the database can't be written.
pub(super) fn skip_numbers_of_other_timeline(connection: &mut Connection) -> Result<()> {
    let Some(timeline) = read_timeline(connection)? else { return Ok(()) };
    let known = "SELECT timeline FROM counters";
    let known = with_tx(connection, |tx| first(tx, known, &[], |row| row.take::<String>()))?.unwrap_or_default();
    if known == timeline {
        return Ok(());
    }
    // The condition is evaluated again after the lock, so only one of several servers skips numbers.
    let sql = "UPDATE counters SET timeline = $1,
            last_position = CASE WHEN timeline = '' THEN last_position ELSE last_position + $2 END,
            last_key = CASE WHEN timeline = '' THEN last_key ELSE last_key + $2 END,
            claim_version = CASE WHEN timeline = '' THEN claim_version ELSE claim_version + $2 END
        WHERE timeline <> $1";
    let changed = with_tx(connection, |tx| tx.execute(sql, params![timeline, PROMOTION_JUMP]))?;
    if changed > 0 && !known.is_empty() {
        tracing::warn!(timeline, "the database has a new timeline: positions continue {PROMOTION_JUMP} higher");
    }
    Ok(())
}

/// Returns the timeline of the database, or None if the database has no timelines.
fn read_timeline(connection: &mut Connection) -> Result<Option<String>> {
    let sql = "SELECT SUBSTRING(pg_walfile_name(pg_current_wal_lsn()) FOR 8)";
    match with_tx(connection, |tx| first(tx, sql, &[], |row| row.take())) {
        Err(Error::Internal(_)) => {
            connection.forget_failure();
            Ok(None)
        }
        timeline => timeline,
    }
}

/// Runs statements of the server itself, outside of a transaction body.
pub(super) fn with_tx<T>(connection: &mut Connection, body: impl FnOnce(&mut dyn Tx) -> Result<T>) -> Result<T> {
    let clock = SystemClock::new();
    body(&mut PostgresTx::new(connection, &clock as &dyn Clock, &IdGenerator::new(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_change_types_and_order() {
        let sql = "CREATE TABLE a (key INTEGER, name TEXT NOT NULL, digest BLOB) STRICT;";
        let expected =
            "CREATE TABLE a (key BIGINT, name TEXT COLLATE \"C\" NOT NULL, digest BYTEA) WITH (fillfactor = 85);";
        assert_eq!(to_postgres(sql), expected);
        let index = MIGRATIONS.map(to_postgres).concat();
        assert!(index.contains("capability_set_key, path_set_key NULLS FIRST, priority DESC, ordinal)"));
    }
}
