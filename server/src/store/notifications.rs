//! Notifications of a commit: each `Signal` for waiters, and the growth of the log for watchers.
//!
//! Notifications are sent after the commit. They only say that reading again is worthwhile: all data comes from the
//! store.

use tokio::sync::watch;

use crate::domain::Key;
use crate::domain::time::Timestamp;

/// A committed change that a held call may wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Tasks of a run have become claimable.
    Ready {
        /// The run.
        run_key: Key,
        /// The number of tasks.
        tasks: usize,
    },
    /// A task with paths is no longer held.
    PathsFreed {
        /// The repository of the task's run.
        repo_path: String,
    },
    /// A run has ended, or has begun to end.
    RunEnded(Key),
    /// A call with a request_id was answered, so duplicates of it can return the same answer.
    Answered {
        /// The RPC.
        rpc: &'static str,
        /// The request_id of the call.
        request_id: String,
    },
    /// An approval is no longer pending.
    Decided(Key),
    /// The sweeper has work to do at this time.
    Due(Timestamp),
}

/// Receives the signals of each commit.
pub type Listener = Box<dyn Fn(&[Signal]) + Send + Sync>;

/// Sends notifications to the waiters and watchers of this process.
pub(super) struct Notifications {
    /// The newest committed position.
    growth: watch::Sender<i64>,
    listener: Listener,
}

impl Notifications {
    /// Begins with the newest position that the database holds.
    pub fn new(position: i64, listener: Listener) -> Self {
        Self { growth: watch::Sender::new(position), listener }
    }

    /// Returns a receiver of the newest committed position.
    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.growth.subscribe()
    }

    /// Sends the signals of a commit to the waiters.
    pub fn signal(&self, signals: &[Signal]) {
        (self.listener)(signals);
    }

    /// Tells watchers that the log reaches up to `newest`, unless they know.
    pub fn log_reaches(&self, newest: i64) {
        self.growth.send_if_modified(|position| std::mem::replace(position, newest) != newest);
    }
}
