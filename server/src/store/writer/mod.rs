//! The one writer: a thread that owns the writing session and commits queued calls in groups.

mod group;
mod job;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use self::group::Groups;
use self::job::{Call, Job};
use super::notifications::Notifications;
use super::queue::Queue;
use super::session::{Counted, WriteSession};
use super::{JobOptions, Limit, Listener, Tx};
use crate::error::{Error, Result};

/// Maximum size of a group. Larger groups add latency and no throughput.
const LARGEST_GROUP: Limit = Limit { rows: 128, bytes: 1024 * 1024 };

/// The handle of the writer thread. Dropping it ends the thread once the queue is empty.
pub(super) struct Writer {
    queue: Arc<Queue<Box<dyn Job>>>,
    growth: watch::Receiver<i64>,
    /// None once `close` waits for the thread.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. `counted` holds the numbers that the database has committed.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(session: impl WriteSession, counted: Counted, listener: Listener) -> std::io::Result<Self> {
        let notifications = Notifications::new(counted.position, listener);
        let growth = notifications.log_growth();
        let (answers, answerable) = mpsc::unbounded_channel();
        tokio::spawn(answer_all(answerable));
        let groups = Groups::new(session, counted, notifications, answers);
        let queue = Arc::new(Queue::new());
        let served = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
            let _on_exit = AbandonQueue(&served);
            groups.serve(&served);
        })?;
        Ok(Self { queue, growth, thread: Mutex::new(Some(thread)) })
    }

    /// Runs a body in the next group and waits for its commit.
    ///
    /// # Errors
    /// The body or the commit fails; `Overloaded` if the queue is full; `Draining` if the writer has ended.
    pub async fn transact<T, F>(&self, options: JobOptions, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Box::new(Call::new(body, reply)), options)?;
        // The sender is dropped unused if the thread or the runtime has ended.
        answer.await.unwrap_or(Err(Error::Draining))
    }

    /// Returns the number of queued calls.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns a receiver of the newest committed position.
    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.growth.clone()
    }

    /// Closes the queue and waits until everything in it is committed.
    pub async fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Fails the queued calls when the thread ends, for whatever reason, so that no caller waits for it any longer.
struct AbandonQueue<'a>(&'a Queue<Box<dyn Job>>);

impl Drop for AbandonQueue<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the writer thread panicked: no write succeeds until the server is restarted");
        }
        self.0.abandon();
    }
}

/// Answers the calls of committed groups. The writer thread wakes this one task for each group: waking a task of the
/// runtime for each call would take as long as some of the calls.
async fn answer_all(mut groups: mpsc::UnboundedReceiver<Vec<Box<dyn Job>>>) {
    while let Some(group) = groups.recv().await {
        group.into_iter().for_each(Job::answer);
    }
}
