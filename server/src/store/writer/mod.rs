//! This module runs the writer, a thread that owns the writing session and commits the queued calls in groups.

mod checkpoints;
mod group;
mod group_size;
mod job;
mod stalls;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use self::group::GroupCommitter;
use self::job::{Call, Job};
use super::notifications::Notifications;
use super::queue::Queue;
use super::session::{LastAssigned, ReadAhead, WriteDatabase};
use super::state::{StateReporter, StoreFailure, StoreState};
use super::{ClaimVersion, JobOptions, Tx};
use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// Closes the database after the writer thread has ended.
pub(super) type CloseDatabase = Box<dyn FnOnce() + Send>;

/// Owns the writer thread. After this value is dropped, the thread serves the remaining queued calls and ends.
pub(super) struct Writer {
    queue: Arc<Queue<Box<dyn Job>>>,
    notifications: Arc<Notifications>,
    state: StateReporter,
    /// Join handle of the writer thread. After `close` has started to wait for the thread, the value is None.
    thread: Mutex<Option<JoinHandle<CloseDatabase>>>,
}

impl Writer {
    /// Starts the writer thread and returns the writer. `last_assigned` holds the last numbers that the database has
    /// committed. `notifications` notifies the waiters and watchers after each commit. `clock` tells the start of a time without writes. Fails if the operating system can't start a thread.
    ///
    /// # Panics
    /// Panics if the caller is outside a tokio runtime.
    pub fn start(
        database: impl WriteDatabase,
        last_assigned: LastAssigned,
        notifications: Arc<Notifications>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let notified = Arc::clone(&notifications);
        let (answers, answerable) = mpsc::unbounded_channel();
        tokio::spawn(answer_all(answerable));
        let queue = Arc::new(Queue::new());
        let served = Arc::clone(&queue);
        let state = StateReporter::new();
        let reporter = state.clone();
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
            let _on_exit = ExitGuard { queue: &served, state: &reporter };
            let session = database.session();
            GroupCommitter::new(session, last_assigned, notified, clock, reporter.clone(), answers).serve(&served);
            let close_database: CloseDatabase = Box::new(move || database.close());
            close_database
        })?;
        Ok(Self { queue, notifications, state, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a transaction body, waits until the body's group is committed, and returns the result of the body. `ahead`
    /// names rows that the body needs. Fails if the body or the commit fails, with `StoreFull` if the disk is full, with
    /// `Overloaded` if the call's lane of the queue is full, and with `Draining` if the writer has ended.
    pub async fn transact<T, F>(&self, options: JobOptions, ahead: ReadAhead, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Box::new(Call::new(body, options, ahead, reply)), options)?;
        // If the writer thread or the runtime has ended, the channel closes without a response, and the call fails with
        // `Draining`.
        answer.await.unwrap_or(Err(Error::Draining))
    }

    /// Returns the number of queued calls.
    pub fn queued_calls(&self) -> usize {
        self.queue.len()
    }

    /// Returns a receiver of the newest committed position.
    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.notifications.log_growth()
    }

    /// Returns the newest committed claim version.
    pub fn claim_version(&self) -> ClaimVersion {
        self.notifications.claim_version()
    }

    /// Returns a receiver of the state of the writer.
    pub fn state(&self) -> watch::Receiver<StoreState> {
        self.state.subscribe()
    }

    /// Returns the start of the time without writes, or None if the disk is not known to be full.
    pub fn full_since(&self) -> Option<Timestamp> {
        self.state.full_since()
    }

    /// Reports that the database file can't be read, so the server must end, and fails all queued and later calls.
    pub fn fail(&self, cause: &str) {
        self.state.report_failure(StoreFailure::Database(cause.to_owned()));
        self.queue.abandon();
    }

    /// Waits until the server has begun to receive the notifications of other servers.
    pub async fn until_listening(&self) {
        self.notifications.until_listening().await;
    }

    /// Reports a stall of all servers that use the database.
    pub fn report_stall(&self, since: Timestamp) {
        self.state.report_stall(since);
    }

    /// Returns the start of a stall after which the leases have not been extended yet, or None if there was none.
    pub fn stalled_since(&self) -> Option<Timestamp> {
        self.state.stalled_since()
    }

    /// Closes the queue and waits until all queued calls are committed. Returns the function that closes the database,
    /// or None if the queue was closed before or if the writer thread has panicked.
    pub async fn close(&self) -> Option<CloseDatabase> {
        self.queue.close();
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take())?;
        tokio::task::spawn_blocking(move || thread.join()).await.ok()?.ok()
    }

    /// Fails all queued calls with `Draining`, and closes the queue.
    pub fn abandon_queue(&self) {
        self.queue.abandon();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Fails the queued calls when the writer thread ends or panics, because otherwise the callers would wait forever.
/// Reports a panic, so that the server ends.
struct ExitGuard<'a> {
    queue: &'a Queue<Box<dyn Job>>,
    state: &'a StateReporter,
}

impl Drop for ExitGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.report_failure(StoreFailure::Panicked);
        }
        self.queue.abandon();
    }
}

/// Answers the calls of finished groups. The writer thread wakes one tokio task for each group, because waking one
/// tokio task for each call would take as long as running a short transaction body.
async fn answer_all(mut groups: mpsc::UnboundedReceiver<Vec<Box<dyn Job>>>) {
    while let Some(group) = groups.recv().await {
        group.into_iter().for_each(Job::answer);
    }
}
