//! The store: all tables and all SQL, behind `Store`, the trait `Tx` and a closure for each transaction.
//!
//! - One file for each table or query: `runs`, `tasks`, `events` …, `ready`, `due` …
//! - `tx` is what the body of a transaction can do. `column` converts values.
//! - `table` generates the statements of a table from one declaration of its columns; `names` are statuses and conditions
//!   by name.
//! - `queue`, `writer` and `notifications` commit transactions in groups and tell others. They know no database.
//! - `session` is the seam to the database; `sqlite` is what is SQLite's own.
//!
//! The SQL is one text for SQLite and PostgreSQL: parameters `$1`, `$2` …, no ids or times made by the database, no
//! arrays.

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
#[cfg(test)]
mod faulty;
pub mod imports;
mod names;
mod notifications;
pub mod path_sets;
pub mod pending;
mod queue;
pub mod ready;
pub mod requests;
pub mod runs;
mod session;
mod sqlite;
mod table;
pub mod tasks;
mod tx;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

pub use self::column::{AsParam, Columns, Row, SqlValue};
pub use self::notifications::{Listener, Signal};
pub use self::queue::{JobOptions, Lane};
pub use self::ready::IsFree;
use self::session::WriteSession;
#[cfg(test)]
pub use self::sqlite::query_plans;
pub use self::sqlite::{OpenError, version};
use self::sqlite::{Readers, SqliteSession};
pub(crate) use self::tx::params;
pub use self::tx::{Each, Limit, Page, Tx, all, any, first, page};
use self::writer::Writer;
use crate::clock::Clock;
use crate::error::Result;

/// The one database of a server. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    readers: Readers,
    log_id: String,
    /// Held as long as the store, so that a second server can't open the file.
    _lock: std::fs::File,
}

impl Store {
    /// Opens the database, creates or migrates it, and starts its writer. The listener receives the signals of each
    /// commit.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Errors
    /// Another server has the file open; its schema is newer than this program; it can't be read or written.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, listener: Listener) -> Result<Self, OpenError> {
        Self::open_with(path, clock, listener, |session| session)
    }

    /// Opens the database with a session around the one that writes to it.
    fn open_with<S: WriteSession>(
        path: &Path,
        clock: Arc<dyn Clock>,
        listener: Listener,
        wrap: impl FnOnce(SqliteSession) -> S,
    ) -> Result<Self, OpenError> {
        let database = sqlite::open(path, &clock)?;
        let writer = Writer::start(wrap(database.session), database.counted, listener)
            .map_err(|cause| OpenError::at("the writer thread".as_ref(), cause))?;
        let inner = Inner { writer, readers: database.readers, log_id: database.log_id, _lock: database.lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a body that writes and commits it, together with the bodies of other calls. Once this returns Ok, the
    /// changes are on disk.
    ///
    /// The body may run more than once, so it does nothing but use `tx`. If it returns Err, its changes are rolled back.
    ///
    /// # Errors
    /// The body or the commit fails; `Overloaded` if the queue is full; `Draining` if the store is closed.
    pub async fn transact<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.transact_with(JobOptions::default(), body).await
    }

    /// Runs a body as `transact` does, and says how it waits in the queue.
    ///
    /// # Errors
    /// This function fails as `transact` does.
    pub async fn transact_with<T, F>(&self, options: JobOptions, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.writer.transact(options, body).await
    }

    /// Runs a body that reads one consistent state, which includes everything answered before.
    ///
    /// # Errors
    /// The body fails; `Overloaded` if too many reads wait.
    pub async fn read<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.readers.read(body).await
    }

    /// Runs a body as `read` does and never refuses it: for a watcher, whose call was admitted before.
    ///
    /// # Errors
    /// The body fails.
    pub async fn read_exempt<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.readers.read_exempt(body).await
    }

    /// Runs a body of the server itself, one at a time. It never waits for the reads of callers and is never refused.
    ///
    /// # Errors
    /// The body fails.
    pub async fn read_as_server<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.readers.read_as_server(body).await
    }

    /// Returns a receiver of the newest committed position. It says only that the log has grown.
    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.inner.writer.log_growth()
    }

    /// Returns the number of calls in the writer's queue.
    pub fn waiting(&self) -> usize {
        self.inner.writer.waiting()
    }

    /// Returns the name of this database. A cursor is good for one log_id.
    pub fn log_id(&self) -> &str {
        &self.inner.log_id
    }

    /// Ends the writer once everything in its queue is committed. Later writes are refused.
    pub async fn close(&self) {
        self.inner.writer.close().await;
    }
}
