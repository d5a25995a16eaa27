//! This module manages a pool of read-only connections to an SQLite database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use r2d2_sqlite::SqliteConnectionManager;

use super::file::DatabaseFile;
use super::{OpenError, SqliteTx, sql_error};
use crate::clock::{Clock, IdGenerator};
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::read_gate::ReadGate;
use crate::store::readers::{READERS, ReadPool, Readers};

/// Number of SQLite's virtual instructions after which a statement checks whether the readers are closed.
const INSTRUCTIONS: i32 = 10_000;

/// The open connections and the lock of the database file.
struct SqlitePool {
    connections: r2d2::Pool<SqliteConnectionManager>,
    /// The lock, which must be dropped after the connections.
    _file: Arc<DatabaseFile>,
    clock: Arc<dyn Clock>,
}

/// Opens read-only connections, and returns the readers of the database. Fails if the database file can't be opened.
pub(super) fn open(file: Arc<DatabaseFile>, gate: Arc<ReadGate>, clock: Arc<dyn Clock>) -> Result<Readers, OpenError> {
    let is_closed = Arc::<AtomicBool>::default();
    let stop = Arc::clone(&is_closed);
    let manager = SqliteConnectionManager::file(file.path()).with_flags(super::reader_flags()).with_init(move |conn| {
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
    Ok(Readers::new(SqlitePool { connections, _file: file, clock }, is_closed, gate))
}

impl ReadPool for SqlitePool {
    fn read(&self, body: &mut dyn FnMut(&mut dyn Tx)) -> Result<()> {
        let conn = self.connections.get().map_err(Error::internal)?;
        // When `_snapshot` is dropped, SQLite rolls back the transaction. The rollback loses nothing, because the
        // transaction body only reads.
        let _snapshot = conn.unchecked_transaction().map_err(sql_error)?;
        body(&mut SqliteTx::new(&*conn, self.clock.as_ref(), &IdGenerator::new(), None));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::readers::MAX_WAITING;

    #[tokio::test(flavor = "multi_thread")]
    async fn full_queue_refuses_reads_that_are_not_exempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(super::super::open_writer(&path).unwrap());
        let file = Arc::new(DatabaseFile::open(&path).unwrap());
        let readers = open(file, Arc::default(), Arc::new(SystemClock::new())).unwrap();
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
        let readers = Arc::new(open(file, Arc::default(), Arc::new(SystemClock::new())).unwrap());
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
