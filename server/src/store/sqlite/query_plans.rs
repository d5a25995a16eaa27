//! This module records the query plan of each statement that a transaction body runs. Only tests use the module.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::{SqliteTx, open_writer};
use crate::clock::{Clock, IdGenerator};
use crate::domain::Key;
use crate::domain::time::{ClockStep, Timestamp};
use crate::error::{Error, Result};
use crate::store::{ClaimVersion, RowHandler, Signal, SqlValue, Transaction, Tx, counters};

/// Maps each statement to the steps of the statement's query plan.
pub type Plans = BTreeMap<&'static str, Vec<String>>;

/// Runs a transaction body on a new database and returns the query plan of each statement that the body ran.
pub fn explain(path: &Path, clock: &dyn Clock, body: impl FnOnce(&mut dyn Tx) -> Result<()>) -> Plans {
    let conn = open_writer(path).unwrap();
    let ids = IdGenerator::new();
    let counters = counters::load_or_create(&mut SqliteTx::new(&conn, clock, &ids, None)).unwrap();
    let tx = SqliteTx::new(&conn, clock, &ids, Some(counters.last_assigned));
    let mut explaining = ExplainingTx { tx, conn: &conn, plans: Plans::new() };
    body(&mut explaining).unwrap();
    explaining.plans
}

/// Describes a slow step of a query plan that is acceptable in one statement. A slow step visits more rows than the
/// step returns, or sorts the rows.
struct Exception {
    /// Part of the SQL text that identifies the statement.
    statement: &'static str,
    /// Start of the step's text.
    step: &'static str,
    reason: &'static str,
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

/// Returns the statements whose query plan contains a scan or a sort that `EXCEPTIONS` does not list.
///
/// # Panics
/// Panics if an entry of `EXCEPTIONS` applies to no statement, because an unused entry must be removed.
pub fn find_slow_statements(plans: &Plans) -> Vec<(&'static str, &[String])> {
    for Exception { statement, step, reason } in EXCEPTIONS {
        let applies = |(sql, steps): (&&str, &Vec<String>)| {
            sql.contains(statement) && steps.iter().any(|one| one.starts_with(step))
        };
        assert!(plans.iter().any(applies), "{statement}: {step}: {reason}");
    }
    let is_exception = |sql: &str, step: &str| {
        EXCEPTIONS.iter().any(|other| sql.contains(other.statement) && step.starts_with(other.step))
    };
    let is_slow = |step: &str| ["SCAN", "TEMP B-TREE", "AUTOMATIC"].iter().any(|word| step.contains(word));
    let slow = plans.iter().filter(|(sql, steps)| steps.iter().any(|step| is_slow(step) && !is_exception(sql, step)));
    slow.map(|(sql, steps)| (*sql, steps.as_slice())).collect()
}

/// Records the query plan of each statement before the statement runs.
struct ExplainingTx<'a> {
    tx: SqliteTx<'a>,
    conn: &'a Connection,
    plans: Plans,
}

impl ExplainingTx<'_> {
    fn record(&mut self, sql: &'static str) -> Result<()> {
        if self.plans.contains_key(sql) {
            return Ok(());
        }
        let mut plan = self.conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).map_err(Error::internal)?;
        let nulls = rusqlite::params_from_iter(std::iter::repeat_n(rusqlite::types::Null, plan.parameter_count()));
        let steps = plan.query_map(nulls, |row| row.get::<_, String>("detail")).map_err(Error::internal)?;
        let steps = steps.collect::<rusqlite::Result<_>>().map_err(Error::internal)?;
        self.plans.insert(sql, steps);
        Ok(())
    }
}

impl Tx for ExplainingTx<'_> {
    fn now(&self) -> Timestamp {
        self.tx.now()
    }

    fn step_clock(&mut self, step: ClockStep) -> Result<()> {
        self.tx.step_clock(step)
    }

    fn new_id(&self) -> String {
        self.tx.new_id()
    }

    fn new_token(&self) -> String {
        self.tx.new_token()
    }

    fn next_key(&mut self) -> Result<Key> {
        self.tx.next_key()
    }

    fn next_position(&mut self) -> Result<i64> {
        self.tx.next_position()
    }

    fn next_claim_version(&mut self) -> Result<i64> {
        self.tx.next_claim_version()
    }

    fn claim_version(&mut self) -> Result<ClaimVersion> {
        self.tx.claim_version()
    }

    fn transaction(&self) -> Transaction {
        self.tx.transaction()
    }

    fn signal(&mut self, signal: Signal) {
        self.tx.signal(signal);
    }

    fn has_written(&self) -> bool {
        self.tx.has_written()
    }

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        self.record(sql)?;
        self.tx.execute(sql, params)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
        self.record(sql)?;
        self.tx.query(sql, params, handler)
    }
}
