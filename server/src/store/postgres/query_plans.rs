//! This module explains the query plans of statements on PostgreSQL. Only tests use the module.

use super::address::PostgresAddress;
use super::batch::statement_for_many;
use super::connection::Connection;
use super::{PostgresTx, schema};
use crate::clock::{Clock, IdGenerator};
use crate::error::Result;
use crate::store::query_plans::{Exception, Plans, RecordingTx, find_slow_statements};
use crate::store::{Tx, all, counters};

/// Runs a transaction body on an empty database and returns the query plan of each statement that the body ran, and of the
/// statements that change many rows instead.
///
/// # Panics
/// Panics if a statement has a parameter that is not an int8, a text or a bytea, or an array of these.
pub fn explain(address: &PostgresAddress, clock: &dyn Clock, body: impl FnOnce(&mut dyn Tx) -> Result<()>) -> Plans {
    let mut connection = Connection::open(address).unwrap();
    schema::migrate(&mut connection, address).unwrap();
    let ids = IdGenerator::new();
    let counters = counters::load_or_create(&mut PostgresTx::new(&mut connection, clock, &ids, None)).unwrap();
    let mut tx = PostgresTx::new(&mut connection, clock, &ids, Some(counters.last_assigned));
    let statements = RecordingTx::record(&mut tx, body);
    connection.settle().unwrap();
    pretend_large_tables(&mut connection);
    let many: Vec<&str> = statements.iter().filter_map(|sql| leak_statement_for_many(&mut connection, sql)).collect();
    statements.into_iter().chain(many).map(|sql| (sql, explain_one(&mut connection, sql))).collect()
}

/// Returns the statement that changes many rows, if there is one.
fn leak_statement_for_many(connection: &mut Connection, sql: &'static str) -> Option<&'static str> {
    let statement = connection.prepare(sql).unwrap();
    // Only this test keeps the text forever, so the leaked memory is bounded.
    statement_for_many(sql, statement.params()).map(|many| &*many.leak())
}

/// Makes the planner plan for tables with a million rows. For tables that are almost empty, every plan is good.
fn pretend_large_tables(connection: &mut Connection) {
    let script = "UPDATE pg_class SET reltuples = 1000000, relpages = 1
        WHERE relkind IN ('r', 'i') AND relname <> 'counters' AND relnamespace = CURRENT_SCHEMA::regnamespace";
    connection.run_script(script).unwrap();
    // Only the plans of later statements use the new statistics.
    connection.run_script("DISCARD PLANS").unwrap();
}

fn explain_one(connection: &mut Connection, sql: &'static str) -> Vec<String> {
    let types: Vec<String> =
        connection.prepare(sql).unwrap().params().iter().map(|param| param.name().to_owned()).collect();
    let is_known = |name: &String| ["int8", "text", "bytea"].contains(&name.trim_start_matches('_'));
    assert!(types.iter().all(is_known), "the statement {sql} has parameters of the types {types:?}");
    connection.run_script(&format!("PREPARE explained AS {sql}")).unwrap();
    let nulls = vec!["NULL"; types.len()].join(", ");
    let arguments = if types.is_empty() { String::new() } else { format!("({nulls})") };
    let explain: &'static str = format!("EXPLAIN (COSTS OFF) EXECUTE explained{arguments}").leak();
    let steps = schema::with_tx(connection, |tx| all(tx, explain, &[], |row| row.take::<String>())).unwrap();
    connection.run_script("DEALLOCATE explained").unwrap();
    mark_whole_indexes(steps.into_iter().map(|step| step.trim_start_matches([' ', '-', '>']).to_owned()).collect())
}

/// Marks the steps that read an index from its start. A step that reads only a part of the index is followed by a
/// condition.
fn mark_whole_indexes(mut steps: Vec<String>) -> Vec<String> {
    for at in 0..steps.len() {
        let has_condition = steps.get(at + 1).is_some_and(|next| next.starts_with("Index Cond"));
        if steps[at].starts_with("Index") && steps[at].contains(" Scan ") && !has_condition {
            steps[at].push_str(WHOLE_INDEX);
        }
    }
    steps
}

/// Mark of a step that reads an index from its start.
const WHOLE_INDEX: &str = ": whole index";

/// Returns the statements whose query plan contains a scan or a sort that `EXCEPTIONS` does not list.
pub fn find_slow(plans: &Plans) -> Vec<(&'static str, &[String])> {
    find_slow_statements(plans, &EXCEPTIONS, &["Seq Scan", "Sort", "Bitmap", "Hash Join", WHOLE_INDEX])
}

const EXCEPTIONS: [Exception; 11] = [
    Exception { statement: "counters", step: "Seq Scan on counters", reason: "the table has one row" },
    Exception {
        statement: "FROM runs r",
        step: "Index Only Scan using runs_giving_out",
        reason: "the partial index holds exactly the runs whose tasks can be claimed",
    },
    Exception {
        statement: "FROM runs r",
        step: "Index Only Scan using runs_paused",
        reason: "the partial index holds exactly the paused runs",
    },
    Exception {
        statement: "SELECT key FROM runs",
        step: "Index Scan using runs_cancelling",
        reason: "the partial index holds exactly the runs that are being cancelled",
    },
    Exception {
        statement: "FROM tasks t JOIN path_sets s",
        step: "Index Only Scan using tasks_leased_paths",
        reason: "the partial index holds exactly the leased tasks with paths",
    },
    Exception {
        statement: "FROM tasks t JOIN path_sets s",
        step: "Index Scan using tasks_leased_paths",
        reason: "the partial index holds exactly the leased tasks with paths",
    },
    Exception {
        statement: "ROW_NUMBER() OVER (ORDER BY t.ordinal)",
        step: "Sort",
        reason: "the dependents of one task, all of which are changed",
    },
    Exception { statement: "d.task_key = $1 AND", step: "Sort", reason: "the dependencies of one task" },
    Exception {
        statement: "FROM deleted_runs LIMIT 1",
        step: "Index Only Scan using deleted_runs_pkey",
        reason: "the table holds exactly the runs that the server is deleting",
    },
    Exception {
        statement: "DELETE FROM requests",
        step: "Index Scan using requests_pkey",
        reason: "the first thousand rows of the table",
    },
    Exception {
        statement: "FROM events ORDER BY position LIMIT 1000",
        step: "Index Scan using events_from_now_on_pkey",
        reason: "the first thousand rows of the table",
    },
];
