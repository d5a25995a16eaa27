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
