//! This module runs reads. Each read sees one consistent state of the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use super::Tx;
use super::read_gate::ReadGate;
use crate::error::{Error, Result};

/// Maximum number of callers' reads that run at a time. More concurrent reads would only compete for the processors.
pub(super) const READERS: u32 = 8;

/// Maximum number of reads that wait for a connection. Further reads are refused with OVERLOADED.
pub(super) const MAX_WAITING: usize = 4_096;

/// The connections that read one database. Dropping the value closes the connections.
pub(super) trait ReadPool: Send + Sync + 'static {
    /// Runs a body in a read transaction of its own. Fails if no connection is available. `READERS` (8) reads of callers
    /// and one read of the server run at a time.
    fn read(&self, body: &mut dyn FnMut(&mut dyn Tx)) -> Result<()>;
}

/// Runs the reads of callers and of the server.
pub(super) struct Readers {
    /// The connections. After `close`, the value is None.
    pool: Mutex<Option<Arc<dyn ReadPool>>>,
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
}

impl Readers {
    /// Returns the readers of a database. When the readers are closed, the statements of `pool` must fail, because
    /// `is_closed` is then true. The writer holds back new reads with `gate`.
    pub fn new(pool: impl ReadPool, is_closed: Arc<AtomicBool>, gate: Arc<ReadGate>) -> Self {
        Self {
            pool: Mutex::new(Some(Arc::new(pool))),
            connections: Arc::new(Semaphore::new(READERS as usize)),
            server_connection: Arc::new(Semaphore::new(1)),
            admitted: Semaphore::new(READERS as usize + MAX_WAITING),
            is_closed,
            gate,
        }
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
        let running = self.gate.enter().await;
        let (reply, answer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            // Drop the permit after the pool, because `close` must not end before all connections are closed.
            let _permit = permit;
            let pool = pool;
            let _running = running;
            read_once(pool.as_ref(), &body, reply);
        });
        let result = answer.await.map_err(|_| Error::internal("a read has panicked: report the bug"))?;
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

    fn lock_pool(&self) -> MutexGuard<'_, Option<Arc<dyn ReadPool>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a read, and sends its result. Sends the value of the body at once, because a database across a network takes
/// some time to end the transaction.
fn read_once<T>(pool: &dyn ReadPool, body: &impl Fn(&mut dyn Tx) -> Result<T>, reply: oneshot::Sender<Result<T>>) {
    let mut reply = Some(reply);
    let mut failure = Error::internal("the connection did not run the read: report the bug");
    let read = pool.read(&mut |tx| match body(tx) {
        // Ignore the failure: the caller has disconnected.
        Ok(value) => drop(reply.take().map(|reply| reply.send(Ok(value)))),
        Err(error) => failure = error,
    });
    let Some(reply) = reply else { return };
    let error = match read.err().unwrap_or(failure) {
        Error::StoreDamaged(cause) => Error::Internal(cause),
        other => other,
    };
    // Ignore the failure: the caller has disconnected.
    let _ = reply.send(Err(error));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::sqlite_plans;

    /// Connections on which the end of a transaction waits for a message, but at most 5 s.
    struct SlowEnds {
        may_end: Mutex<mpsc::Receiver<()>>,
        has_ended: Arc<AtomicBool>,
    }

    impl ReadPool for SlowEnds {
        fn read(&self, body: &mut dyn FnMut(&mut dyn Tx)) -> Result<()> {
            let folder = tempfile::tempdir().unwrap();
            sqlite_plans::explain(&folder.path().join("db"), &SystemClock::new(), |tx| {
                body(tx);
                Ok(())
            });
            let _ = self.may_end.lock().unwrap().recv_timeout(Duration::from_secs(5));
            self.has_ended.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn value_of_a_read_does_not_wait_for_the_end_of_the_transaction() {
        let (end, may_end) = mpsc::channel();
        let has_ended = Arc::<AtomicBool>::default();
        let pool = SlowEnds { may_end: Mutex::new(may_end), has_ended: Arc::clone(&has_ended) };
        let readers = Readers::new(pool, Arc::default(), Arc::default());
        assert_eq!(readers.read(|_| Ok(7)).await, Ok(7));
        assert!(!has_ended.load(Ordering::Relaxed));
        end.send(()).unwrap();
        readers.close().await;
        assert!(has_ended.load(Ordering::Relaxed), "closing waits for the end of the transaction");
    }
}
