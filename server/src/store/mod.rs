//! This module is the store, which contains all tables and SQL statements of the server. Callers pass one closure for
//! each transaction to `Store`, and the closure calls the methods of the trait `Tx`.
//!
//! The store has these modules:
//! - Each table has its own file, for example `runs` and `tasks`. Larger queries have their own files, for example
//!   `ready` and `due`.
//! - `tx` defines the operations that a transaction body can call, and `column` converts values between Rust and SQL.
//! - `table` generates the statements of a table from one declaration of the table's columns, and `names` defines
//!   shared statuses and conditions.
//! - `queue`, `writer` and `notifications` commit transactions in groups, and notify waiters and watchers. These three
//!   modules contain no code for a specific database.
//! - `session` defines the interface between the writer and a database, and `sqlite` contains all code that is specific
//!   to SQLite. `maintenance`, a part of `sqlite`, backs up, restores and shrinks database files.
//!
//! The SQL statements are written for both SQLite and PostgreSQL. The statements use numbered parameters (`$1`, `$2`),
//! use no arrays, and never let the database generate ids or times.

pub mod agents;
pub mod approvals;
pub mod artifacts;
pub mod attempts;
mod body_tx;
pub mod capability_sets;
pub mod checkpoints;
mod column;
pub mod compaction;
pub mod counters;
pub mod deletion;
pub mod dependencies;
pub mod due;
pub mod events;
#[cfg(test)]
pub mod faulty;
pub mod imports;
mod location;
pub mod many_tasks;
mod migrations;
mod names;
mod notifications;
mod open_error;
mod page;
pub mod path_sets;
pub mod pending;
mod portion;
mod postgres;
#[cfg(test)]
mod query_plans;
mod queue;
mod read_gate;
mod readers;
pub mod ready;
pub mod requests;
mod role;
pub mod runs;
mod session;
mod sqlite;
mod state;
mod table;
pub mod tasks;
mod tasks_ahead;
mod tx;
mod tx_cache;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::column::{AsParam, Columns, Row, SqlValue};
pub use self::location::Location;
use self::notifications::Notifications;
pub use self::notifications::{Listener, Signal};
pub use self::open_error::OpenError;
pub use self::page::{Limit, Page, page};
#[cfg(test)]
pub use self::postgres::query_plans as postgres_plans;
pub use self::postgres::{Migrated, PostgresAddress, TemporaryDatabase, migrate};
pub use self::queue::{JobOptions, Lane};
use self::readers::Readers;
pub use self::role::RoleClaim;
pub use self::session::ReadAhead;
use self::session::{LastAssigned, WriteDatabase};
use self::sqlite::SqliteWriter;
pub use self::sqlite::maintenance;
#[cfg(test)]
pub use self::sqlite::query_plans as sqlite_plans;
pub use self::state::{StoreFailure, StoreState};
#[cfg(test)]
pub(crate) use self::tx::delegate_state;
pub(crate) use self::tx::params;
pub use self::tx::{ClaimVersion, RowHandler, Transaction, Tx, VersionCursor, all, any, first, row_limit};
pub use self::tx_cache::TxCache;
use self::writer::Writer;
use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// Provides access to the server's only database. All clones of a `Store` share the writer and the connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    readers: Readers,
    log_id: String,
    version: String,
    /// Id of this server in the table `servers`. If no other server can use the database, the value is None.
    server_id: Option<String>,
    clock: Arc<dyn Clock>,
    /// Whether this server has the role of the sweeper.
    has_sweeper_role: watch::Sender<bool>,
    /// The tasks that run until the store is dropped.
    #[allow(dead_code)]
    background: JoinSet<()>,
}

fn start_writer(
    database: impl WriteDatabase,
    last_assigned: LastAssigned,
    notifications: Arc<Notifications>,
    clock: Arc<dyn Clock>,
) -> Result<Writer, OpenError> {
    Writer::start(database, last_assigned, notifications, clock)
        .map_err(|cause| OpenError::unreadable("the writer thread".as_ref(), cause))
}

impl Store {
    /// Opens the database at a location, as `open` and `open_postgres` do.
    ///
    /// # Panics
    /// Panics if the caller is outside a tokio runtime.
    pub fn open_at(location: &Location, clock: Arc<dyn Clock>, listener: Listener) -> Result<Self, OpenError> {
        match location {
            Location::File(path) => Self::open(path, clock, listener),
            Location::Postgres(address) => Self::open_postgres(address, clock, listener),
        }
    }

    /// Opens the database file, creates or migrates the database schema, starts the writer thread, and returns the
    /// store. `listener` receives the signals of each commit. Fails if another server has the database file open, if a
    /// newer version of Runhub has migrated the database, if the linked SQLite version can lose commits, or if the
    /// database file can't be read or written.
    ///
    /// # Panics
    /// Panics if the caller is outside a tokio runtime.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, listener: Listener) -> Result<Self, OpenError> {
        Self::open_with(path, clock, listener, |writer| writer)
    }

    /// Opens the database file as `open` does, but wraps the writing connection with `wrap`, and returns the store.
    /// Tests use this function to inject faults.
    fn open_with<D: WriteDatabase>(
        path: &Path,
        clock: Arc<dyn Clock>,
        listener: Listener,
        wrap: impl FnOnce(SqliteWriter) -> D,
    ) -> Result<Self, OpenError> {
        let database = sqlite::open(path, &clock)?;
        let notifications = Arc::new(Notifications::new(database.last_assigned, listener));
        let writer = start_writer(wrap(database.writer), database.last_assigned, notifications, Arc::clone(&clock))?;
        let (readers, log_id) = (database.readers, database.log_id);
        let background = JoinSet::new();
        let (version, has_sweeper_role) = (sqlite::version(), watch::Sender::new(true));
        let inner = Inner { writer, readers, log_id, version, server_id: None, clock, has_sweeper_role, background };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn open_postgres(address: &PostgresAddress, clock: Arc<dyn Clock>, listener: Listener) -> Result<Self, OpenError> {
        let database = postgres::open(address.clone(), &clock)?;
        let notifications = Arc::new(Notifications::new(database.last_assigned, listener));
        let mut background = JoinSet::new();
        background.spawn(database.listen(Arc::clone(&notifications)));
        let postgres::Database { writer, readers, last_assigned, log_id, version, server_id, .. } = database;
        let writer = start_writer(writer, last_assigned, notifications, Arc::clone(&clock))?;
        let (server_id, has_sweeper_role) = (Some(server_id), watch::Sender::new(false));
        let inner = Inner { writer, readers, log_id, version, server_id, clock, has_sweeper_role, background };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the name, the version and the address of the database, without secrets.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Runs a transaction body that writes, and commits the changes of the body in one group with other calls. Returns
    /// the result of the body. When this function returns Ok, the changes are on disk. Fails if the body or the commit
    /// fails, with `StoreFull` if the disk is full, with `Overloaded` if the call's lane of the queue is full, and with
    /// `Draining` if the store is closed or has failed.
    ///
    /// The transaction body may run more than once, so the body must have no effects except through `tx`. If the body
    /// returns Err, the writer rolls back the changes of the body.
    pub async fn transact<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.transact_with(JobOptions::default(), body).await
    }

    /// Runs a transaction body as `transact` does, and returns the result of the body. `options` determines how the
    /// call waits in the writer's queue. Fails under the same conditions as `transact`.
    pub async fn transact_with<T, F>(&self, options: JobOptions, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.writer.transact(options, ReadAhead::default(), body).await
    }

    /// Runs a transaction body as `transact_with` does. The store may read the rows in `ahead` before the body runs. Fails
    /// under the same conditions as `transact`, but not if a row does not exist.
    pub async fn transact_ahead<T, F>(&self, ahead: ReadAhead, options: JobOptions, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.inner.writer.transact(options, ahead, body).await
    }

    /// Runs a transaction body that only reads, and returns the result of the body. The body sees one consistent state
    /// of the database, which includes every write that was answered before this call. Fails if the body fails, and
    /// with `Overloaded` if `MAX_WAITING` (4,096) reads already wait.
    pub async fn read<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.report(self.inner.readers.read(body).await)
    }

    /// Runs a transaction body as `read` does and returns the result of the body, but never fails with `Overloaded`.
    /// Watchers use this function to read, because the server has already admitted the calls of the watchers. Fails if
    /// the body fails.
    pub async fn read_exempt<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.report(self.inner.readers.read_exempt(body).await)
    }

    /// Runs a read-only transaction body of the server itself, and returns the result of the body. The server's own
    /// reads run one at a time, never wait for the reads of callers, and are never refused. Fails if the body fails.
    pub async fn read_as_server<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.report(self.inner.readers.read_as_server(body).await)
    }

    /// Reports to the server that a read has failed because the database file can't be read.
    fn report<T>(&self, read: Result<T>) -> Result<T> {
        read.inspect_err(|error| {
            if let Error::StoreFailed(cause) = error {
                self.inner.writer.fail(cause);
            }
        })
    }

    /// Returns a receiver of the newest committed position. A new position only shows that the log has grown, and the
    /// caller must read the events from the store.
    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.inner.writer.log_growth()
    }

    /// Returns the newest committed claim version. A claim that found no task at this version finds no task until the
    /// version changes or a delayed task is due.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn claim_version(&self) -> Result<ClaimVersion> {
        let own = self.inner.writer.claim_version();
        if !self.is_shared() {
            return Ok(own);
        }
        // The notification about the commit of another server can arrive after the answer of that server.
        let newest = self.read_exempt(|tx| tx.claim_version()).await?;
        Ok(ClaimVersion { rollbacks: self.inner.writer.claim_version().rollbacks, ..newest })
    }

    /// Returns the number of calls that wait in the writer's queue.
    pub fn queued_calls(&self) -> usize {
        self.inner.writer.queued_calls()
    }

    /// Returns a receiver of the state of the store: whether the store can write, the disk is full, or the store has
    /// failed.
    pub fn state(&self) -> watch::Receiver<StoreState> {
        self.inner.writer.state()
    }

    /// Returns the start of the time without writes, or None if the disk is not known to be full.
    pub fn full_since(&self) -> Option<Timestamp> {
        self.inner.writer.full_since()
    }

    /// Returns the start of a stall of the writer after which the leases have not been extended yet, or None if there
    /// was none. In a stall, no heartbeat could be stored. Until a transaction with `JobOptions::recovering_since` is
    /// committed, no lease may expire.
    pub fn stalled_since(&self) -> Option<Timestamp> {
        self.inner.writer.stalled_since()
    }

    /// Returns the log_id, which identifies this database. A cursor is valid only for one log_id.
    pub fn log_id(&self) -> &str {
        &self.inner.log_id
    }

    /// Closes the writer's queue, waits until all queued calls are committed and all running reads have ended, and
    /// closes the database, which is then one complete file. Later calls are refused with `Draining`.
    pub async fn close(&self) {
        let Some(close_database) = self.inner.writer.close().await else { return };
        self.inner.readers.close().await;
        // Ignore the error, because a panic has already been logged, and all commits are durable.
        let _ = tokio::task::spawn_blocking(close_database).await;
    }

    /// Fails all queued calls with `Draining`, and closes the writer's queue.
    pub fn abandon_queue(&self) {
        self.inner.writer.abandon_queue();
    }
}
