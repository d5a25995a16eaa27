//! Acts as time passes: takes back expired leases, ends cancellations whose grace has passed, lets approvals expire, and
//! wakes claims when a task's `not_before_time` passes.
//!
//! The sweeper finds due rows on a reader and acts on them by key. Each act checks again, in the transaction that writes,
//! whether the row is still due, because it may have changed in between.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::actions::{approval, cancel, lease};
use crate::clock::{CLOCK_CHECK_INTERVAL, Clock};
use crate::domain::Key;
use crate::domain::task::Task;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::due::{self, Due};
use crate::store::{JobOptions, Signal, Store, Tx};
use crate::wake::Waiters;

/// How long the sweeper waits after an error, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// The longest time between two sweeps. It limits how late the sweeper is if a due time was never reported to it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How far a sweep looks back for tasks whose `not_before_time` has passed: the time can pass before the transaction that
/// set it commits.
const OVERLAP: Duration = Duration::from_secs(2);

/// The one sweeper of a server.
pub struct Sweeper {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    /// The last reading of the clock.
    last_clock_check: Timestamp,
    /// The start of a stall from which leases have not been recovered yet.
    stalled_since: Option<Timestamp>,
    /// The sweeper has announced the tasks whose `not_before_time` passed up to this time.
    swept_at: Timestamp,
}

impl Sweeper {
    /// Returns a sweeper that has not swept yet.
    pub fn new(store: Store, clock: Arc<dyn Clock>, waiters: Arc<Waiters>) -> Self {
        let now = clock.now();
        Self { store, clock, waiters, last_clock_check: now, stalled_since: None, swept_at: now }
    }

    /// Sweeps until the server shuts down.
    pub async fn run(mut self, mut draining: watch::Receiver<bool>) {
        let mut next = self.clock.now();
        loop {
            if self.check_clock() >= next || self.stalled_since.is_some() {
                next = self.sweep_or_retry().await;
                continue;
            }
            let next_check = next.min(self.last_clock_check.plus(CLOCK_CHECK_INTERVAL));
            tokio::select! {
                () = self.clock.sleep_until(next_check) => {}
                () = self.waiters.due_timer.brought_forward() => {
                    next = self.waiters.due_timer.time().unwrap_or(next).min(next);
                }
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    }

    async fn sweep_or_retry(&mut self) -> Timestamp {
        match self.sweep().await {
            Ok(next) => next.unwrap_or_else(|| self.clock.now().plus(LONGEST_SLEEP)),
            Err(error) => {
                if error != Error::Draining {
                    tracing::warn!(%error, retry_seconds = RETRY.as_secs(), "sweep failed");
                }
                self.clock.now().plus(RETRY)
            }
        }
    }

    /// Does everything that is due now. Returns when the next thing falls due, if anything is known to.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn sweep(&mut self) -> Result<Option<Timestamp>> {
        let store = self.store.clone();
        loop {
            self.waiters.due_timer.reset();
            let now = self.check_clock();
            self.recover_from_stall().await?;
            let since = self.swept_at.minus(OVERLAP);
            let due = self.watch_clock_during(store.read_as_server(move |tx| due::find(tx, since, now))).await?;
            self.swept_at = now;
            for (run_key, tasks) in &due.newly_ready {
                self.waiters.handle(&Signal::Ready { run_key: *run_key, tasks: *tasks });
            }
            if due.changes_nothing() {
                break;
            }
            self.watch_clock_during(act(&store, due, now)).await?;
        }
        let now = self.swept_at;
        if let Some(next) = self.watch_clock_during(store.read_as_server(move |tx| due::next(tx, now))).await? {
            self.waiters.due_timer.bring_forward(next);
        }
        Ok(self.waiters.due_timer.time())
    }

    /// Reads the clock, and notes a stall since the last reading.
    fn check_clock(&mut self) -> Timestamp {
        let now = self.clock.now();
        if self.clock.has_stalled(self.last_clock_check, now) {
            self.stalled_since.get_or_insert(self.last_clock_check);
        }
        self.last_clock_check = now;
        now
    }

    /// Waits for work that may take long. It reads the clock meanwhile, so that slow work does not look like a stall.
    async fn watch_clock_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            let next_check = self.last_clock_check.plus(CLOCK_CHECK_INTERVAL);
            tokio::select! {
                done = &mut work => return done,
                () = self.clock.sleep_until(next_check) => {}
            }
            self.check_clock();
        }
    }

    /// Extends leases after a stall, so that their holders can report before any lease is taken back (C3).
    async fn recover_from_stall(&mut self) -> Result<()> {
        if let Some(since) = self.stalled_since {
            let store = self.store.clone();
            let extended = self.watch_clock_during(recover(&store, since)).await?;
            self.stalled_since = None;
            tracing::warn!(extended, "stall detected: leases and graces extended");
        }
        Ok(())
    }
}

/// Does what a sweep has found due, each thing in its own transaction and only if it is still due.
///
/// # Errors
/// The store can't be written.
pub async fn act(store: &Store, due: Due, swept_at: Timestamp) -> Result<()> {
    // Graces come first: a lease that ends because the grace has passed is not a lost agent.
    each(store, due.graces, cancel::finish_if_over).await?;
    let expired = each(store, due.leases, move |tx, key| lease::expire(tx, key, swept_at)).await?;
    expired.into_iter().flatten().for_each(|task| log_expired(&task));
    each(store, due.approvals, approval::expire).await.map(drop)
}

/// Logs an expired lease: an operator finds the agent that died, or that is too slow for its lease.
fn log_expired(task: &Task) {
    tracing::info!(
        run_id = task.run_id,
        task_id = task.id,
        attempt_number = task.attempt_count,
        agent_id = task.agent_id,
        "lease expired"
    );
}

/// Queues one transaction for each key, all at once, so that they share commits. Returns what each has returned.
async fn each<T, F>(store: &Store, keys: Vec<Key>, act: F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Fn(&mut dyn Tx, Key) -> Result<T> + Copy + Send + 'static,
{
    let acts = keys.into_iter().map(|key| store.transact_with(JobOptions::SERVER_FIRST, move |tx| act(tx, key)));
    // All of them run, even if one fails; the first error is returned.
    join_all(acts).await.into_iter().collect()
}

/// Extends every lease that was live at `live_at`, and every grace, to at least min(its duration, 30 s) from now. Returns how
/// many leases and graces it extended.
///
/// # Errors
/// The store can't be written.
pub async fn recover(store: &Store, live_at: Timestamp) -> Result<u64> {
    store
        .transact_with(JobOptions::SERVER_FIRST, move |tx| {
            let now = tx.now();
            due::recover(tx, live_at, now)
        })
        .await
}
