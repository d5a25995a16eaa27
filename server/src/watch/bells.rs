//! Who is woken when the log grows: those who watch all runs, and those who watch a run that something happened in. The
//! rest sleeps on: a thousand idle watchers cost a busy run nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// All the bells. Each holds the position up to which there is something to look at.
pub struct Bells {
    all_runs: watch::Sender<i64>,
    of_runs: Mutex<HashMap<String, watch::Sender<i64>>>,
}

impl Default for Bells {
    fn default() -> Self {
        Self { all_runs: watch::Sender::new(0), of_runs: Mutex::default() }
    }
}

impl Bells {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<i64>>> {
        // Whoever panicked with it left a map that is whole: each change of it is one step.
        self.of_runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what rings for a run, or for any, from now on.
    pub fn listen(self: &Arc<Self>, run_id: Option<String>) -> Ear {
        let ring = match &run_id {
            Some(run_id) => self.lock().entry(run_id.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe(),
            None => self.all_runs.subscribe(),
        };
        Ear { bells: Arc::clone(self), run_id, ring: Some(ring) }
    }

    /// Somebody listens.
    pub fn has_ears(&self) -> bool {
        self.all_runs.receiver_count() > 0 || !self.lock().is_empty()
    }

    /// Something happened in these runs; up to here there is all of it to look at.
    pub fn ring<'a>(&self, run_ids: impl Iterator<Item = &'a String>, position: i64) {
        self.all_runs.send_replace(position);
        let of_runs = self.lock();
        run_ids.filter_map(|run_id| of_runs.get(run_id)).for_each(|bell| {
            bell.send_replace(position);
        });
    }

    /// Something happened, and nobody has looked in which runs.
    pub fn ring_all(&self, position: i64) {
        self.all_runs.send_replace(position);
        self.lock().values().for_each(|bell| {
            bell.send_replace(position);
        });
    }
}

/// Who listens.
pub struct Ear {
    bells: Arc<Bells>,
    run_id: Option<String>,
    /// None only while it is dropped.
    ring: Option<watch::Receiver<i64>>,
}

impl Ear {
    /// Until there is something after a position, also if it has rung already.
    pub async fn hears_of_more_than(&mut self, position: i64) {
        if let Some(ring) = &mut self.ring {
            // The sender can't be gone: `bells` holds it.
            let _ = ring.wait_for(|rung| *rung > position).await;
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let Some(run_id) = &self.run_id else { return };
        let mut of_runs = self.bells.lock();
        // Within the lock: of two that go at the same time one is the last.
        self.ring = None;
        if of_runs.get(run_id).is_some_and(|bell| bell.receiver_count() == 0) {
            of_runs.remove(run_id);
        }
    }
}
