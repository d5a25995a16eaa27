//! This module explains the query plans of statements on SQLite. Only tests use the module.

use std::path::Path;

use rusqlite::Connection;

use super::{SqliteTx, open_writer};
use crate::clock::{Clock, IdGenerator};
use crate::error::Result;
use crate::store::query_plans::{Exception, Plans, RecordingTx, find_slow_statements};
use crate::store::{Tx, counters};

/// Runs a transaction body on a new database and returns the query plan of each statement that the body ran.
pub fn explain(path: &Path, clock: &dyn Clock, body: impl FnOnce(&mut dyn Tx) -> Result<()>) -> Plans {
    let conn = open_writer(path).unwrap();
    let ids = IdGenerator::new();
    let counters = counters::load_or_create(&mut SqliteTx::new(&conn, clock, &ids, None)).unwrap();
    let mut tx = SqliteTx::new(&conn, clock, &ids, Some(counters.last_assigned));
    let statements = RecordingTx::record(&mut tx, body);
    statements.into_iter().map(|sql| (sql, explain_one(&conn, sql))).collect()
}

fn explain_one(conn: &Connection, sql: &str) -> Vec<String> {
    let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let nulls = rusqlite::params_from_iter(std::iter::repeat_n(rusqlite::types::Null, plan.parameter_count()));
    plan.query_map(nulls, |row| row.get("detail")).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Returns the statements whose query plan contains a scan or a sort that `EXCEPTIONS` does not list.
pub fn find_slow(plans: &Plans) -> Vec<(&'static str, &[String])> {
    find_slow_statements(plans, &EXCEPTIONS, &["SCAN", "TEMP B-TREE", "AUTOMATIC"])
}

const EXCEPTIONS: [Exception; 11] = [
    Exception { statement: "counters", step: "SCAN counters", reason: "the table has one row" },
    Exception {
        statement: "FROM runs r",
        step: "SCAN r USING INDEX runs_giving_out",
        reason: "the partial index holds exactly the runs whose tasks can be claimed",
    },
    Exception {
        statement: "FROM runs r",
        step: "SCAN r USING COVERING INDEX runs_paused",
        reason: "the partial index holds exactly the paused runs",
    },
    Exception {
        statement: "ROW_NUMBER() OVER (ORDER BY t.ordinal)",
        step: "USE TEMP B-TREE FOR ORDER BY",
        reason: "the dependents of one task, all of which are changed",
    },
    Exception {
        statement: "ROW_NUMBER() OVER (ORDER BY t.ordinal)",
        step: "SCAN (subquery-",
        reason: "the numbered tasks, all of which are changed",
    },
    Exception {
        statement: "d.task_key = $1 AND",
        step: "USE TEMP B-TREE FOR ORDER BY",
        reason: "the dependencies of one task",
    },
    Exception {
        statement: "LIMIT $2) counted",
        step: "SCAN counted",
        reason: "the inner query finds its rows by an index and has a LIMIT",
    },
    Exception {
        statement: "FROM deleted_runs LIMIT 1",
        step: "SCAN deleted_runs",
        reason: "the table holds exactly the runs that the server is deleting",
    },
    Exception {
        statement: "DELETE FROM requests",
        step: "SCAN requests",
        reason: "the first thousand rows of the table",
    },
    Exception {
        statement: "DELETE FROM requests",
        step: "SCAN oldest",
        reason: "the thousand rows of the inner query",
    },
    Exception {
        statement: "FROM events ORDER BY position LIMIT 1000",
        step: "SCAN events",
        reason: "the first thousand rows of the table",
    },
];
