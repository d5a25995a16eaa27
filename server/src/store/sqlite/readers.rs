//! This module manages a pool of read-only database connections. Each read sees one consistent state of the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use r2d2_sqlite::SqliteConnectionManager;
use tokio::sync::Semaphore;

use super::file::DatabaseFile;
use super::read_gate::ReadGate;
use super::{OpenError, SqliteTx, sql_error};
use crate::clock::{Clock, IdGenerator};
use crate::error::{Error, Result};
use crate::store::Tx;

/// Maximum number of callers' reads that run at a time. More concurrent reads would only compete for the processors.
const READERS: u32 = 8;

/// Maximum number of reads that wait for a connection. Further reads are refused with OVERLOADED.
const MAX_WAITING: usize = 4_096;

/// Number of SQLite's virtual instructions after which a statement checks whether the readers are closed.
const INSTRUCTIONS: i32 = 10_000;

/// The open connections and the lock of the database file. The lock must be dropped after the connections.
#[derive(Clone)]
struct Pool {
    connections: r2d2::Pool<SqliteConnectionManager>,
    _file: Arc<DatabaseFile>,
}

pub(in crate::store) struct Readers {
    /// The pool of the connections. After `close`, the value is None.
    pool: Mutex<Option<Pool>>,
    /// One permit for each of the `READERS` connections. A read waits for a permit without blocking a thread.
    connections: Arc<Semaphore>,
    /// Permit for the connection that is reserved for the server's own reads.
    server_connection: Arc<Semaphore>,
    /// One permit for each running or waiting read that is not exempt.
    admitted: Semaphore,
    /// If the value is true, the running statements fail.
    is_closed: Arc<AtomicBool>,
    /// Lets the writer hold back new reads.
    gate: Arc<ReadGate>,
    clock: Arc<dyn Clock>,
}

impl Readers {
    /// Opens and returns the pool of read-only connections. Fails if the database file can't be opened.
    pub fn open(file: Arc<DatabaseFile>, gate: Arc<ReadGate>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let is_closed = Arc::<AtomicBool>::default();
        let stop = Arc::clone(&is_closed);
        let manager =
            SqliteConnectionManager::file(file.path()).with_flags(super::reader_flags()).with_init(move |conn| {
                let stop = Arc::clone(&stop);
                conn.progress_handler(INSTRUCTIONS, Some(move || stop.load(Ordering::Relaxed)))?;
                super::prepare_reader(conn)
            });
        let connections = r2d2::Pool::builder()
            .max_size(READERS + 1)
            .min_idle(Some(1))
            // Skip the test of a connection before each read, because a connection to a local file can't be lost.
            .test_on_check_out(false)
            .build(manager)
            .map_err(|cause| OpenError::unreadable(file.path(), cause))?;
        Ok(Self {
            pool: Mutex::new(Some(Pool { connections, _file: file })),
            connections: Arc::new(Semaphore::new(READERS as usize)),
            server_connection: Arc::new(Semaphore::new(1)),
            admitted: Semaphore::new(READERS as usize + MAX_WAITING),
            is_closed,
            gate,
            clock,
        })
    }

    /// Runs a read-only transaction body on a pooled connection, and returns the result of the body. Fails if the body
    /// fails, and with `Overloaded` if `MAX_WAITING` (4,096) reads already wait.
    pub async fn read<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let _admission = self.admitted.try_acquire().map_err(|_| Error::Overloaded)?;
        self.read_exempt(body).await
    }

    /// Runs a read-only transaction body, and returns the result of the body. The read is never refused, but waits for
    /// a connection like the reads of all other callers. Fails if the body fails.
    pub async fn read_exempt<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.read_with_permit(&self.connections, body).await
    }

    /// Runs a read-only transaction body of the server itself, and returns the result of the body. The read does not
    /// wait for the reads of callers and is never refused. Fails if the body fails.
    pub async fn read_as_server<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.read_with_permit(&self.server_connection, body).await
    }

    async fn read_with_permit<T, F>(&self, permits: &Arc<Semaphore>, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| Error::Draining)?;
        let pool = self.lock_pool().clone().ok_or(Error::Draining)?;
        let clock = Arc::clone(&self.clock);
        let running = self.gate.enter().await;
        let done = tokio::task::spawn_blocking(move || {
            // Drop the permit after the pool, because `close` must not end before all connections are closed.
            let _permit = permit;
            let pool = pool;
            let _running = running;
            read_once(&pool.connections, clock.as_ref(), &body)
        });
        let result = done.await.map_err(Error::internal)?;
        // The statements of a read fail when the readers are closed.
        result.map_err(|error| if self.is_closed.load(Ordering::Relaxed) { Error::Draining } else { error })
    }

    /// Ends the running reads, and closes all connections. The reads fail, because nobody waits for their results any
    /// more. Later reads are refused with `Draining`.
    pub async fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let _no_reads = self.connections.acquire_many(READERS).await;
        let _no_own_read = self.server_connection.acquire().await;
        self.connections.close();
        self.server_connection.close();
        drop(self.lock_pool().take());
    }

    fn lock_pool(&self) -> MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_once<T>(
    pool: &r2d2::Pool<SqliteConnectionManager>,
    clock: &dyn Clock,
    body: &impl Fn(&mut dyn Tx) -> Result<T>,
) -> Result<T> {
    let conn = pool.get().map_err(Error::internal)?;
    // When `_snapshot` is dropped, SQLite rolls back the transaction. The rollback loses nothing, because the
    // transaction body only reads.
    let read = || {
        let _snapshot = conn.unchecked_transaction().map_err(sql_error)?;
        body(&mut SqliteTx::new(&*conn, clock, &IdGenerator::new(), None))
    };
    read().map_err(|error| match error {
        Error::StoreDamaged(cause) => Error::Internal(cause),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(flavor = "multi_thread")]
    async fn full_queue_refuses_reads_that_are_not_exempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(super::super::open_writer(&path).unwrap());
        let file = Arc::new(DatabaseFile::open(&path).unwrap());
        let readers = Readers::open(file, Arc::default(), Arc::new(SystemClock::new())).unwrap();
        let gate = Arc::new(Barrier::new(READERS as usize + 1));
        let running = (0..READERS).map(|_| {
            let gate = Arc::clone(&gate);
            readers
                .read(move |_| {
                    gate.wait();
                    Ok(())
                })
                .boxed()
        });
        let waiting = (0..MAX_WAITING).map(|_| readers.read(|_| Ok(())).boxed());
        // The first poll of a read puts the read into the queue of reads that wait for a connection.
        let mut admitted = join_all(running.chain(waiting)).boxed();
        assert!((&mut admitted).now_or_never().is_none());
        assert_eq!(readers.read(|_| Ok(())).await, Err(Error::Overloaded));
        assert_eq!(readers.read_as_server(|_| Ok(1)).await, Ok(1));
        let mut exempt = readers.read_exempt(|_| Ok(2)).boxed();
        assert!((&mut exempt).now_or_never().is_none());
        tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
        assert!(admitted.await.into_iter().all(|read| read.is_ok()));
        assert_eq!(exempt.await, Ok(2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn close_ends_a_read_that_would_run_for_days() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(super::super::open_writer(&path).unwrap());
        let file = Arc::new(DatabaseFile::open(&path).unwrap());
        let readers = Arc::new(Readers::open(file, Arc::default(), Arc::new(SystemClock::new())).unwrap());
        let (begin, begun) = std::sync::mpsc::channel();
        let endless = "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers)
            SELECT COUNT(*) FROM numbers";
        let running = Arc::clone(&readers);
        let read = tokio::spawn(async move {
            let body = move |tx: &mut dyn Tx| {
                begin.send(()).unwrap();
                tx.query(endless, &[], &mut |_| Ok(std::ops::ControlFlow::Continue(())))
            };
            running.read(body).await
        });
        tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
        readers.close().await;
        assert_eq!(read.await.unwrap(), Err(Error::Draining));
    }
}
