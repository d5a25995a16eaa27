//! The store: all the SQL, one file a table, behind one struct, one small trait and a closure.
//!
//! The SQL is written so that SQLite and PostgreSQL both take it: bound parameters `$1`, `$2` …, no database-made
//! ids or times, no arrays. What is SQLite's own stands in `sqlite.rs`, `reader.rs` and `writer.rs`.

pub mod agents;
pub mod approvals;
pub mod artifacts;
pub mod attempts;
pub mod checkpoints;
mod column;
pub mod compaction;
pub mod counters;
pub mod deletion;
pub mod dependencies;
pub mod due;
pub mod events;
pub mod imports;
pub mod path_sets;
pub mod pending;
pub mod plan;
#[cfg(test)]
pub mod plans;
mod queue;
mod reader;
pub mod ready;
pub mod requests;
pub mod runs;
mod signal;
mod sqlite;
pub mod tasks;
mod writer;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

pub use self::column::{AsParam, Columns, Row, SqlValue};
pub use self::ready::IsFree;
pub use self::signal::{Listener, Signal};
pub use self::sqlite::{OpenError, version};
use crate::clock::Clock;
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Binds values to `$1`, `$2` …
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::AsParam::as_param(&$value)),*] };
}
pub(crate) use params;

/// Declares `select!("WHERE …")`: the query of a table's whole rows, continued. A static text, as every statement is.
#[rustfmt::skip] // It indents the inner macro further each time.
macro_rules! rows_of {
    ($dollar:tt $query:literal) => {
        macro_rules! select {
            ($dollar rest:literal) => {
                concat!($query, $dollar rest)
            };
        }
    };
}
pub(crate) use rows_of;

/// What a body may do. Outside `transact` writing is an error.
pub trait Tx {
    /// The time of this transaction.
    fn now(&self) -> Timestamp;
    /// A new public id.
    fn new_id(&self) -> String;
    /// A new lease token.
    fn new_token(&self) -> String;
    /// A key for a new row.
    fn next_key(&mut self) -> Result<Key>;
    /// A position for a new event.
    fn next_position(&mut self) -> Result<i64>;
    /// Says something to those who wait, once this is committed.
    fn signal(&mut self, signal: Signal);
    /// This transaction has changed something.
    fn has_written(&self) -> bool;
    /// Runs a statement; returns how many rows it changed. A text made at run time is no statement.
    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64>;
    /// Runs a query and shows each row until told to stop.
    fn query(&mut self, sql: &'static str, params: &[SqlValue], each: Each) -> Result<()>;
}

/// Looks at a row, and says whether to go on.
pub type Each<'a> = &'a mut dyn FnMut(&mut Columns) -> Result<ControlFlow<()>>;

/// The first row of a query.
pub fn first<T>(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    map: impl Fn(&mut Columns) -> Result<T>,
) -> Result<Option<T>> {
    let mut found = None;
    tx.query(sql, params, &mut |row| {
        found = Some(map(row)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// All rows of a query; for queries that are bounded by their nature or by a LIMIT.
pub fn all<T>(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    map: impl Fn(&mut Columns) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    tx.query(sql, params, &mut |row| {
        rows.push(map(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// The rows of a query up to a count and to about so many bytes, but at least one; and whether that was all.
pub fn page<T>(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    limit: Limit,
    map: impl Fn(&mut Columns) -> Result<T>,
) -> Result<Page<T>> {
    let mut page = Page { rows: Vec::new(), is_last: true };
    let mut bytes = 0;
    tx.query(sql, params, &mut |row| {
        let mapped = map(row)?;
        bytes += row.bytes();
        if page.rows.len() == limit.rows || (bytes > limit.bytes && !page.rows.is_empty()) {
            page.is_last = false;
            return Ok(ControlFlow::Break(()));
        }
        page.rows.push(mapped);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

/// How much a page holds, or a group of calls.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// In rows.
    pub rows: usize,
    /// In bytes, as stored.
    pub bytes: usize,
}

/// Some rows of a query.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Nothing follows them.
    pub is_last: bool,
}

/// How a body that writes waits for its turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticket {
    /// Before the others: it keeps agents at their work.
    pub is_first: bool,
    /// Never refused: it is the server's own, or of a call that was let in before and has waited.
    pub is_let_in: bool,
    /// Of its request, which it holds while it waits.
    pub bytes: usize,
}

impl Ticket {
    /// For what the server does so that agents go on.
    pub const OWN_FIRST: Self = Self { is_first: true, is_let_in: true, bytes: 0 };
    /// For what the server does when it finds the time.
    pub const OWN: Self = Self { is_first: false, is_let_in: true, bytes: 0 };
}

/// The one database of a server.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: writer::Writer,
    readers: reader::Readers,
    log_id: String,
    // Held as long as the store: a second server on the same file is refused by it.
    _lock: std::fs::File,
}

impl Store {
    /// Opens the database, makes or migrates it, and starts its writer. The listener hears what was committed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// Another server has it; its schema is newer than this program; it can't be read or written.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, listener: Listener) -> Result<Self, OpenError> {
        let lock = sqlite::lock(path)?;
        let conn = sqlite::open_writer(path)?;
        let counters = sqlite::prepare(&conn, clock.as_ref())?;
        let log_id = counters.log_id.clone();
        let readers = reader::Readers::open(path, Arc::clone(&clock))?;
        let writer = writer::Writer::start(conn, clock, counters, listener)?;
        Ok(Self { inner: Arc::new(Inner { writer, readers, log_id, _lock: lock }) })
    }

    /// Runs a body that writes, when it is its turn; refused as overloaded when too many wait. It commits together with
    /// others; when this returns it is on disk.
    ///
    /// The body may run more than once and does nothing but use `tx`. Its `Err` undoes what it wrote.
    pub async fn transact<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.transact_as(Ticket::default(), body).await
    }

    /// The same with a place of its own among those that wait.
    pub async fn transact_as<T, F>(&self, ticket: Ticket, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.writer.transact(ticket, body).await
    }

    /// Runs a body that reads, on one consistent state that has everything answered before. When too many wait for that
    /// it is refused as overloaded.
    pub async fn read<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.readers.read(body).await
    }

    /// The same for one who has been let in and waits as long as it takes, a watcher: it is never refused.
    pub async fn read_patiently<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.readers.read_patiently(body).await
    }

    /// The same for the server itself, one at a time: it never waits behind callers, and is never refused.
    pub async fn read_first<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.readers.read_first(body).await
    }

    /// The newest committed position, and a wake-up whenever it grows. It says only that the log has grown.
    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.inner.writer.log_growth()
    }

    /// How many bodies wait for the writer.
    pub fn waiting(&self) -> usize {
        self.inner.writer.waiting()
    }

    /// Names this database.
    pub fn log_id(&self) -> &str {
        &self.inner.log_id
    }

    /// Ends the writer once everything it has taken is committed. Later writes are refused.
    pub async fn close(&self) {
        self.inner.writer.close().await;
    }
}
