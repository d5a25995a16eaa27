//! When the log grows, this module wakes the watchers that receive the events of all runs, and the watchers of each run
//! that has new events. The module does not wake the watchers of a run without new events, because the additional
//! wake-ups would slow down a busy run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The newest readable position for all runs, and for each run that has a watcher.
pub struct GrowthNotifier {
    all_runs: watch::Sender<i64>,
    by_run: Mutex<HashMap<String, watch::Sender<i64>>>,
}

impl Default for GrowthNotifier {
    fn default() -> Self {
        Self { all_runs: watch::Sender::new(0), by_run: Mutex::default() }
    }
}

impl GrowthNotifier {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<i64>>> {
        // Ignore lock poisoning. Each change of `by_run` is one step, so a panic can't leave `by_run` partially
        // updated.
        self.by_run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a waiter for new events of the run `run_id` and returns the waiter. If `run_id` is None, the waiter
    /// waits for new events of any run.
    pub fn register(self: &Arc<Self>, run_id: Option<String>) -> GrowthWaiter {
        let newest = match &run_id {
            Some(run_id) => self.lock().entry(run_id.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe(),
            None => self.all_runs.subscribe(),
        };
        GrowthWaiter { notifier: Arc::clone(self), run_id, newest: Some(newest) }
    }

    /// Returns whether a waiter is registered.
    pub fn has_waiters(&self) -> bool {
        self.all_runs.receiver_count() > 0 || !self.lock().is_empty()
    }

    /// Notifies waiters that every event up to `position` can be read: the waiters of each run in `run_ids`, and the
    /// waiters for new events of any run.
    pub fn notify<'a>(&self, run_ids: impl Iterator<Item = &'a String>, position: i64) {
        self.all_runs.send_replace(position);
        let by_run = self.lock();
        for run_id in run_ids {
            if let Some(newest) = by_run.get(run_id) {
                newest.send_replace(position);
            }
        }
    }

    /// Notifies every waiter that every event up to `position` can be read. If the runs of the new events are not
    /// known, use this method.
    pub fn notify_all(&self, position: i64) {
        self.all_runs.send_replace(position);
        for newest in self.lock().values() {
            newest.send_replace(position);
        }
    }
}

/// A registered watcher that waits until the log grows.
pub struct GrowthWaiter {
    notifier: Arc<GrowthNotifier>,
    /// The id of the watched run. None means that the watcher receives the events of all runs.
    run_id: Option<String>,
    /// The receiver of the newest position. The field is None only while the waiter is dropped.
    newest: Option<watch::Receiver<i64>>,
}

impl GrowthWaiter {
    /// Waits until a notification reports a position after `position`. If the newest reported position is already after
    /// `position`, the function returns immediately.
    pub async fn wait_past(&mut self, position: i64) {
        if let Some(newest) = &mut self.newest {
            // Ignore the result. The channel can't be closed, because `notifier` owns the sender.
            let _ = newest.wait_for(|newest| *newest > position).await;
        }
    }
}

impl Drop for GrowthWaiter {
    fn drop(&mut self) {
        let Some(run_id) = &self.run_id else { return };
        let mut by_run = self.notifier.lock();
        // Drop the receiver while `by_run` is locked. Otherwise two waiters that end at the same time could each count
        // the receiver of the other waiter, and the run's entry in `by_run` would never be removed.
        self.newest = None;
        if by_run.get(run_id).is_some_and(|newest| newest.receiver_count() == 0) {
            by_run.remove(run_id);
        }
    }
}
