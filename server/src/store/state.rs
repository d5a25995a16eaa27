//! This module describes whether the store can write: the writer reports a full disk and a failure, and the server
//! reacts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::time::Timestamp;

/// The state of the store's writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreState {
    /// The store writes.
    Writable,
    /// The disk is full. The store refuses every write with `StoreFull` until a transaction that recovers the leases
    /// (`JobOptions::recovering_since`) is committed. Reads continue.
    Full {
        /// The start of the first transaction that the full disk failed.
        since: Timestamp,
    },
    /// The store can't write, because another program has locked the database, or because the server can't reach the
    /// database. The store fails each write with `StoreBusy` until a transaction can begin again.
    Unreachable,
    /// The store never writes again, and refuses every write with `Draining`. The server must end.
    Failed(StoreFailure),
}

/// The reason why a store can't write any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// The database file can't be used any more. For example, the operating system failed to read or write the file, or
    /// the content of the file is damaged. The value is the cause and the way out.
    #[error("{0}")]
    Database(String),
    /// The writer thread panicked outside the body of a transaction.
    #[error("the writer thread panicked: start the server again, and report the bug with the last log lines")]
    Panicked,
}

/// Reports the state of the writer to the server. All clones report to the same receivers.
#[derive(Debug, Clone)]
pub(super) struct StateReporter {
    state: watch::Sender<StoreState>,
    /// The start of a stall after which the leases have not been extended yet.
    stalled_since: Arc<Mutex<Option<Timestamp>>>,
}

impl StateReporter {
    /// Returns the reporter of a store that can write.
    pub fn new() -> Self {
        Self { state: watch::Sender::new(StoreState::Writable), stalled_since: Arc::default() }
    }

    /// Returns a receiver of the state.
    pub fn subscribe(&self) -> watch::Receiver<StoreState> {
        self.state.subscribe()
    }

    /// Returns the start of the time without writes, or None if the disk is not known to be full.
    pub fn full_since(&self) -> Option<Timestamp> {
        match *self.state.borrow() {
            StoreState::Full { since } => Some(since),
            StoreState::Writable | StoreState::Unreachable | StoreState::Failed(_) => None,
        }
    }

    /// Reports that the disk is full. A time without writes that has begun earlier keeps its start.
    pub fn report_full(&self, since: Timestamp) {
        self.state.send_if_modified(|state| {
            let is_new = matches!(state, StoreState::Writable | StoreState::Unreachable);
            if is_new {
                *state = StoreState::Full { since };
            }
            is_new
        });
    }

    /// Reports that no transaction can begin. During a full disk, the state does not change.
    pub fn report_unreachable(&self) {
        self.replace_state(&StoreState::Writable, StoreState::Unreachable);
    }

    /// Reports that transactions can begin again.
    pub fn report_reachable(&self) {
        self.replace_state(&StoreState::Unreachable, StoreState::Writable);
    }

    fn replace_state(&self, from: &StoreState, to: StoreState) {
        self.state.send_if_modified(|state| {
            let is_replaced = state == from;
            if is_replaced {
                *state = to;
            }
            is_replaced
        });
    }

    /// Reports that the store can write again after a full disk.
    pub fn report_writable(&self) {
        self.state.send_if_modified(|state| {
            let was_full = matches!(state, StoreState::Full { .. });
            if was_full {
                *state = StoreState::Writable;
            }
            was_full
        });
    }

    /// Reports that the store never writes again. Later reports change nothing.
    pub fn report_failure(&self, failure: StoreFailure) {
        self.state.send_if_modified(|state| {
            let is_new = !matches!(state, StoreState::Failed(_));
            if is_new {
                *state = StoreState::Failed(failure);
            }
            is_new
        });
    }

    /// Returns the start of a stall of the writer after which the leases have not been extended yet, or None if there
    /// was none. In a stall, no heartbeat could be stored, because another program had locked the database, or because
    /// a commit or a checkpoint took long.
    pub fn stalled_since(&self) -> Option<Timestamp> {
        *self.lock_stall()
    }

    /// Reports a stall. A stall that has begun earlier keeps its start.
    pub fn report_stall(&self, since: Timestamp) {
        let mut stalled_since = self.lock_stall();
        *stalled_since = Some(stalled_since.map_or(since, |earlier| earlier.min(since)));
    }

    /// Reports that the leases that were live at `live_at` are extended.
    pub fn report_recovery(&self, live_at: Timestamp) {
        self.lock_stall().take_if(|since| live_at <= *since);
    }

    fn lock_stall(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.stalled_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
