//! This module sends the signals of each commit to waiters, and notifies watchers of new events in the log.
//!
//! Notifications are sent after the commit. A notification only tells a waiter or watcher to read the store again,
//! because all data comes from the store.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::ClaimVersion;
use super::session::LastAssigned;
use crate::domain::Key;
use crate::domain::time::Timestamp;

/// Describes a committed change that a held call or the sweeper waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Tasks of a run have become claimable.
    Ready {
        /// Key of the run that contains the tasks.
        run_key: Key,
        /// Number of tasks that have become claimable.
        tasks: usize,
    },
    /// The lease of a task with paths has ended, so tasks with overlapping paths may have become claimable.
    PathsFreed {
        /// Path of the repository of the run that contains the task.
        repo_path: String,
    },
    /// A run has ended, or the cancellation of a run has started. The value is the key of the run.
    RunEnded(Key),
    /// A call with a request_id was answered, so duplicate requests can return the stored response.
    Answered {
        /// Name of the RPC that was answered.
        rpc: Cow<'static, str>,
        /// The request_id of the call that was answered.
        request_id: String,
    },
    /// An approval was decided, has expired, was cancelled, or was deleted with the run. The value is the key of the
    /// approval.
    Decided(Key),
    /// A transaction has set the time at which a lease or an approval expires, a grace period ends, or a task becomes
    /// ready. The sweeper must run at this time. The value is this time.
    Due(Timestamp),
    /// Another server may have committed any change: this server has missed notifications.
    Anything,
}

/// Receives the signals of each commit.
pub type Listener = Box<dyn Fn(&[Signal]) + Send + Sync>;

/// Notifies the waiters and watchers of this server process after each commit.
pub(super) struct Notifications {
    /// Channel that sends the newest committed position to watchers.
    growth: watch::Sender<i64>,
    /// Newest committed claim version.
    claim_version: Mutex<ClaimVersion>,
    /// Whether the server has begun to receive the notifications of other servers.
    is_listening: watch::Sender<bool>,
    listener: Listener,
}

impl Notifications {
    /// Creates the `Notifications` of a database with the last assigned numbers `last_assigned`. `listener` receives
    /// the signals of each commit.
    pub fn new(last_assigned: LastAssigned, listener: Listener) -> Self {
        let claim_version = ClaimVersion { number: last_assigned.claim_version, rollbacks: 0 };
        Self {
            growth: watch::Sender::new(last_assigned.position),
            claim_version: Mutex::new(claim_version),
            is_listening: watch::Sender::new(false),
            listener,
        }
    }

    /// Records that the server has begun to receive the notifications of other servers.
    pub fn set_listening(&self) {
        self.is_listening.send_replace(true);
    }

    /// Waits until the server has begun to receive the notifications of other servers.
    pub async fn until_listening(&self) {
        // The sender lives as long as `self`.
        let _ = self.is_listening.subscribe().wait_for(|is_listening| *is_listening).await;
    }

    /// Returns the newest committed claim version.
    pub fn claim_version(&self) -> ClaimVersion {
        *self.claim_version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the newest committed claim version. Call this function before `signal`, because a notified claim compares
    /// the version before it reads the store.
    pub fn set_claim_version(&self, version: ClaimVersion) {
        *self.claim_version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// Returns a receiver of the newest committed position.
    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.growth.subscribe()
    }

    /// Passes the signals of a commit to the listener, which notifies the waiters.
    pub fn signal(&self, signals: &[Signal]) {
        (self.listener)(signals);
    }

    /// Notifies the watchers that the newest position in the log is `newest`. If `newest` or a later position was
    /// already sent, the function does nothing. Returns whether `newest` is new.
    pub fn notify_growth(&self, newest: i64) -> bool {
        self.growth.send_if_modified(|position| {
            let is_new = newest > *position;
            *position = newest.max(*position);
            is_new
        })
    }
}
