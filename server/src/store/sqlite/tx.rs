//! `Tx` on a connection to SQLite, and values on their way into SQLite and out of it.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};

use super::sql_error;
use crate::clock::{self, Clock, Ids};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::session::Counted;
use crate::store::{Columns, Each, Row, Signal, SqlValue, Tx};

/// The open transaction of a connection. The owner of the connection begins the transaction, and commits it or rolls it
/// back.
pub(super) struct SqliteTx<'a> {
    conn: &'a Connection,
    now: Timestamp,
    ids: &'a Ids,
    /// The last numbers taken. None in a read.
    counted: Option<Counted>,
    has_written: bool,
    signals: Vec<Signal>,
}

impl<'a> SqliteTx<'a> {
    /// Makes the view of a transaction for one body. Without `counted` the body can only read.
    pub fn new(conn: &'a Connection, clock: &dyn Clock, ids: &'a Ids, counted: Option<Counted>) -> Self {
        Self { conn, now: clock.now(), ids, counted, has_written: false, signals: Vec::new() }
    }

    /// Returns the last numbers taken, or None in a read.
    pub fn counted(&self) -> Option<Counted> {
        self.counted
    }

    /// Returns the signals for the waiters, to be sent after the commit.
    pub fn into_signals(self) -> Vec<Signal> {
        self.signals
    }

    fn counted_mut(&mut self) -> Result<&mut Counted> {
        self.counted.as_mut().ok_or_else(|| Error::internal("a transaction that only reads can't insert rows"))
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
}

/// SQLite takes `$1` for a name, not for a number, so each parameter is looked up by its name.
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
        let counted = self.counted_mut()?;
        counted.key += 1;
        Ok(counted.key)
    }

    fn next_position(&mut self) -> Result<i64> {
        let counted = self.counted_mut()?;
        counted.position += 1;
        Ok(counted.position)
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
        // A statement that returns rows and is no SELECT (UPDATE … RETURNING) has written.
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
