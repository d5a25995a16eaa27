//! Readers: a pool of connections that only read, each read on one consistent state.

use std::path::Path;
use std::sync::Arc;

use r2d2_sqlite::SqliteConnectionManager;
use tokio::sync::Semaphore;

use super::Tx;
use super::sqlite::{self, OpenError, SqliteTx, sql_error};
use crate::clock::{Clock, Ids};
use crate::error::{Error, Result};

/// Reads at the same time. More would only take turns on the processors.
const READERS: u32 = 8;

/// Beyond so many waiting reads the next is refused at once.
const QUEUE: usize = 4_096;

pub(super) struct Readers {
    pool: r2d2::Pool<SqliteConnectionManager>,
    // So many reads as there are connections, and no thread ever waits for one.
    turns: Arc<Semaphore>,
    /// The same for the server's own reads: one connection more.
    own_turn: Arc<Semaphore>,
    /// Reads that have their turn or wait for it.
    places: Semaphore,
    clock: Arc<dyn Clock>,
}

impl Readers {
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let manager =
            SqliteConnectionManager::file(path).with_flags(sqlite::reader_flags()).with_init(sqlite::prepare_reader);
        let pool = r2d2::Pool::builder()
            .max_size(READERS + 1)
            .min_idle(Some(1))
            // A local file does not go away between two reads.
            .test_on_check_out(false)
            .build(manager)
            .map_err(|cause| OpenError::at(path, cause))?;
        Ok(Self {
            pool,
            turns: Arc::new(Semaphore::new(READERS as usize)),
            own_turn: Arc::new(Semaphore::new(1)),
            places: Semaphore::new(READERS as usize + QUEUE),
            clock,
        })
    }

    pub async fn read<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let _place = self.places.try_acquire().map_err(|_| Error::Overloaded)?;
        self.read_exempt(body).await
    }

    /// Waits in the same line, and is not refused.
    pub async fn read_exempt<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.read_in_turn(&self.turns, body).await
    }

    /// Neither waits for the others nor is refused.
    pub async fn read_as_server<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.read_in_turn(&self.own_turn, body).await
    }

    async fn read_in_turn<T, F>(&self, turns: &Arc<Semaphore>, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let turn = Arc::clone(turns).acquire_owned().await.map_err(Error::internal)?;
        let (pool, clock) = (self.pool.clone(), Arc::clone(&self.clock));
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read_once(&pool, clock.as_ref(), &body)
        });
        done.await.map_err(Error::internal)?
    }
}

fn read_once<T>(
    pool: &r2d2::Pool<SqliteConnectionManager>,
    clock: &dyn Clock,
    body: &impl Fn(&mut dyn Tx) -> Result<T>,
) -> Result<T> {
    let conn = pool.get().map_err(Error::internal)?;
    // Ends, by a rollback that has nothing to undo, when it is dropped.
    let _snapshot = conn.unchecked_transaction().map_err(sql_error)?;
    body(&mut SqliteTx::new(&conn, clock, &Ids::new(), None))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::clock::SystemClock;

    /// Each poll puts a read into the line.
    #[tokio::test(flavor = "multi_thread")]
    async fn when_too_many_wait_only_who_was_not_let_in_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(sqlite::open_writer(&path).unwrap());
        let readers = Readers::open(&path, Arc::new(SystemClock)).unwrap();
        let gate = Arc::new(Barrier::new(READERS as usize + 1));
        let busy = (0..READERS).map(|_| {
            let gate = Arc::clone(&gate);
            readers
                .read(move |_| {
                    gate.wait();
                    Ok(())
                })
                .boxed()
        });
        let waiting = (0..QUEUE).map(|_| readers.read(|_| Ok(())).boxed());
        let mut line = join_all(busy.chain(waiting)).boxed();
        assert!((&mut line).now_or_never().is_none());
        assert_eq!(readers.read(|_| Ok(())).await, Err(Error::Overloaded));
        assert_eq!(readers.read_as_server(|_| Ok(1)).await, Ok(1));
        let mut patient = readers.read_exempt(|_| Ok(2)).boxed();
        assert!((&mut patient).now_or_never().is_none());
        tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
        assert!(line.await.into_iter().all(|read| read.is_ok()));
        assert_eq!(patient.await, Ok(2));
    }
}
