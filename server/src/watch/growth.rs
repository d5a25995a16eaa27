//! Wakes watchers when the log grows: those of all runs, and those of a run that has new events. Other watchers are not
//! woken, so a thousand idle watchers cost a busy run nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The newest position for each scope that somebody watches.
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
        // Each change of the map is one step, so a panic elsewhere leaves it whole.
        self.by_run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a waiter for one run, or for all runs if `run_id` is None.
    pub fn register(self: &Arc<Self>, run_id: Option<String>) -> GrowthWaiter {
        let newest = match &run_id {
            Some(run_id) => self.lock().entry(run_id.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe(),
            None => self.all_runs.subscribe(),
        };
        GrowthWaiter { notifier: Arc::clone(self), run_id, newest: Some(newest) }
    }

    /// Returns whether any waiter is registered.
    pub fn has_waiters(&self) -> bool {
        self.all_runs.receiver_count() > 0 || !self.lock().is_empty()
    }

    /// Notifies the waiters of these runs and of all runs: every event up to `position` can be read.
    pub fn notify<'a>(&self, run_ids: impl Iterator<Item = &'a String>, position: i64) {
        self.all_runs.send_replace(position);
        let by_run = self.lock();
        for run_id in run_ids {
            if let Some(newest) = by_run.get(run_id) {
                newest.send_replace(position);
            }
        }
    }

    /// Notifies every waiter, for when the runs of the new events are not known.
    pub fn notify_all(&self, position: i64) {
        self.all_runs.send_replace(position);
        for newest in self.lock().values() {
            newest.send_replace(position);
        }
    }
}

/// One registered watcher.
pub struct GrowthWaiter {
    notifier: Arc<GrowthNotifier>,
    /// None: the waiter of all runs.
    run_id: Option<String>,
    /// None only while the waiter is dropped.
    newest: Option<watch::Receiver<i64>>,
}

impl GrowthWaiter {
    /// Waits until a notification names a position after this one. Returns at once if one already has.
    pub async fn wait_past(&mut self, position: i64) {
        if let Some(newest) = &mut self.newest {
            // `notifier` holds the sender, so the channel can't be closed.
            let _ = newest.wait_for(|newest| *newest > position).await;
        }
    }
}

impl Drop for GrowthWaiter {
    fn drop(&mut self) {
        let Some(run_id) = &self.run_id else { return };
        let mut by_run = self.notifier.lock();
        // Drop the receiver under the lock: otherwise two waiters that end together could both see the other's receiver,
        // and the entry would stay forever.
        self.newest = None;
        if by_run.get(run_id).is_some_and(|newest| newest.receiver_count() == 0) {
            by_run.remove(run_id);
        }
    }
}
