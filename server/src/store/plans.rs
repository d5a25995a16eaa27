//! For tests: how SQLite goes about each statement that a body runs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::counters;
use super::sqlite::{Counted, SqliteTx, open_writer};
use super::{Each, Signal, SqlValue, Tx};
use crate::clock::{Clock, Ids};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// Each statement that a body ran on a new database, with the steps of its plan.
pub fn explain(path: &Path, clock: &dyn Clock, body: impl FnOnce(&mut dyn Tx) -> Result<()>) -> Plans {
    let conn = open_writer(path).unwrap();
    let (ids, counted) = (Ids::new(), Cell::new(Counted { position: 0, key: 0 }));
    counters::load_or_create(&mut SqliteTx::new(&conn, clock, &ids, None)).unwrap();
    let tx = SqliteTx::new(&conn, clock, &ids, Some(&counted));
    let mut explaining = Explaining { tx, conn: &conn, plans: Plans::new() };
    body(&mut explaining).unwrap();
    explaining.plans
}

/// By statement.
pub type Plans = BTreeMap<&'static str, Vec<String>>;

/// Steps of statements that look through more than they find, or sort it, and why that is good.
const GOOD: [(&str, &str, &str); 10] = [
    ("counters", "SCAN counters", "one row"),
    ("FROM runs r", "SCAN r USING INDEX runs_giving_out", "the runs that live, by an index of those"),
    ("FROM runs r", "SCAN r USING COVERING INDEX runs_paused", "those that are paused, in the same way"),
    ("d.depends_on_key = $1 AND", "USE TEMP B-TREE FOR ORDER BY", "what depends on one task; all of it is changed"),
    ("d.task_key = $1 AND", "USE TEMP B-TREE FOR ORDER BY", "what one task depends on"),
    ("LIMIT $2) counted", "SCAN counted", "those it has found by an index, so many at most"),
    ("DISTINCT path_set_key", "USE TEMP B-TREE FOR DISTINCT", "the tasks of a run that is deleted: all of them go"),
    ("DELETE FROM requests", "SCAN requests", "the first thousand of the table"),
    ("DELETE FROM requests", "SCAN oldest", "that thousand"),
    ("FROM events ORDER BY position LIMIT 1000", "SCAN events", "the first thousand of the table"),
];

/// Those that find their rows without an index, or have to sort them.
pub fn slow(plans: &Plans) -> Vec<(&'static str, &[String])> {
    // Nothing is excused that is not there any more.
    for (part, step, why) in GOOD {
        let is_there = |(sql, steps): (&&str, &Vec<String>)| sql.contains(part) && steps.iter().any(|one| one == step);
        assert!(plans.iter().any(is_there), "{part}: {step}: {why}");
    }
    let is_good = |sql: &str, step: &str| GOOD.iter().any(|(part, good, _)| sql.contains(part) && step == *good);
    let is_slow = |step: &str| ["SCAN", "TEMP B-TREE", "AUTOMATIC"].iter().any(|word| step.contains(word));
    let slow = plans.iter().filter(|(sql, steps)| steps.iter().any(|step| is_slow(step) && !is_good(sql, step)));
    slow.map(|(sql, steps)| (*sql, steps.as_slice())).collect()
}

struct Explaining<'a> {
    tx: SqliteTx<'a>,
    conn: &'a Connection,
    plans: Plans,
}

impl Explaining<'_> {
    fn note(&mut self, sql: &'static str) -> Result<()> {
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

impl Tx for Explaining<'_> {
    fn now(&self) -> Timestamp {
        self.tx.now()
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

    fn signal(&mut self, signal: Signal) {
        self.tx.signal(signal);
    }

    fn has_written(&self) -> bool {
        self.tx.has_written()
    }

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        self.note(sql)?;
        self.tx.execute(sql, params)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], each: Each) -> Result<()> {
        self.note(sql)?;
        self.tx.query(sql, params, each)
    }
}
