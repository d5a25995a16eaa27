//! This module performs the actions that become due as time passes. The sweeper expires leases and approvals, continues
//! cancellations and deletions, and ends the delays of tasks whose `not_before_time` has passed.
//!
//! The sweeper finds the rows of due tasks, approvals and runs in a read transaction, and processes each row in a write
//! transaction. The write transaction checks again whether the row is due, because the row may have changed after the
//! read.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::actions::{approval, cancel, claim_index, deletion, lease};
use crate::clock::{CLOCK_CHECK_INTERVAL, Clock};
use crate::domain::Key;
use crate::domain::task::Task;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::due::{self, DueRows};
use crate::store::{JobOptions, Store, Tx};
use crate::wake::Waiters;

/// Time that the sweeper waits after an error, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum time between two sweeps. If a due time was never reported to the sweeper, this time bounds the delay of the
/// action.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The sweeper of a server. Each server runs exactly one sweeper.
pub struct Sweeper {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    /// The time of the last clock check.
    last_clock_check: Timestamp,
    /// The start of a stall after which the leases have not been extended yet. If no lease must be extended, the value
    /// is None.
    stalled_since: Option<Timestamp>,
}

impl Sweeper {
    /// Returns a sweeper that has not swept yet.
    pub fn new(store: Store, clock: Arc<dyn Clock>, waiters: Arc<Waiters>) -> Self {
        let now = clock.now();
        Self { store, clock, waiters, last_clock_check: now, stalled_since: None }
    }

    /// Sweeps whenever an action is due, until the server shuts down.
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
                () = self.waiters.due_timer.wait_until_brought_forward() => {
                    next = self.waiters.due_timer.next_time().unwrap_or(next).min(next);
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

    /// Performs all actions that are due. Returns the time when the next action is due, or None if no such time is
    /// known.
    ///
    /// # Errors
    /// Fails if the store can't be read or written.
    pub async fn sweep(&mut self) -> Result<Option<Timestamp>> {
        let store = self.store.clone();
        loop {
            self.waiters.due_timer.reset();
            let now = self.check_clock();
            self.recover_from_stall().await?;
            let due = self.watch_clock_during(store.read_as_server(move |tx| due::find(tx, now))).await?;
            if due.is_empty() {
                break;
            }
            self.watch_clock_during(process_due_rows(&store, due, now)).await?;
        }
        if let Some(next) = self.watch_clock_during(store.read_as_server(due::next_due_time)).await? {
            self.waiters.due_timer.bring_forward(next);
        }
        Ok(self.waiters.due_timer.next_time())
    }

    /// Reads the clock and returns the time. Records a stall since the last check.
    fn check_clock(&mut self) -> Timestamp {
        let now = self.clock.now();
        if self.clock.has_stalled(self.last_clock_check, now) {
            self.stalled_since.get_or_insert(self.last_clock_check);
        }
        self.last_clock_check = now;
        now
    }

    /// Waits for a future and returns the future's result. Checks the clock every `CLOCK_CHECK_INTERVAL` during the
    /// wait, because otherwise a slow future would count as a stall.
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

    /// Extends the leases after a stall, so that the agents can send heartbeats before the leases expire. Fails if the
    /// store can't be written.
    async fn recover_from_stall(&mut self) -> Result<()> {
        if let Some(since) = self.stalled_since {
            let store = self.store.clone();
            let extended = self.watch_clock_during(extend_live_leases(&store, since)).await?;
            self.stalled_since = None;
            tracing::warn!(extended, "stall detected: leases and grace periods extended");
        }
        Ok(())
    }
}

/// Runs a separate transaction for each due lease, cancellation, deletion and approval that a sweep has found, and one
/// transaction for at most 1,000 due tasks. If a row is no longer due, the transaction for the row changes nothing.
///
/// # Errors
/// Fails if the store can't be written.
pub async fn process_due_rows(store: &Store, due: DueRows, swept_at: Timestamp) -> Result<()> {
    // Process the cancellations before the leases. If a lease ends because the grace period has passed, the agent has
    // not failed, so the lease must not be logged as expired.
    // Run the transactions of the cancellations one after another, because each can change 1,000 tasks.
    for run_key in due.cancellations {
        transact_each(store, vec![run_key], cancel::continue_cancellation).await?;
    }
    let expired = transact_each(store, due.leases, move |tx, key| lease::expire(tx, key, swept_at)).await?;
    expired.into_iter().flatten().for_each(|task| log_expired(&task));
    transact_each(store, due.approvals, approval::expire).await?;
    transact_each(store, due.deletion.into_iter().collect(), deletion::continue_deletion).await?;
    if due.has_due_tasks {
        store.transact_with(JobOptions::SERVER_FIRST, claim_index::end_delays).await?;
    }
    Ok(())
}

/// Logs an expired lease, so that an operator can find an agent that has failed or is too slow for its lease duration.
fn log_expired(task: &Task) {
    tracing::info!(
        run_id = task.run_id,
        task_id = task.id,
        attempt_number = task.attempt_count,
        agent_id = task.agent_id,
        "lease expired"
    );
}

/// Runs one transaction for each key and returns the results in the order of the keys. Queues all transactions
/// together, so that the transactions share commits. Fails with the first error after all transactions have run.
async fn transact_each<T, F>(store: &Store, keys: Vec<Key>, act: F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Fn(&mut dyn Tx, Key) -> Result<T> + Copy + Send + 'static,
{
    let acts = keys.into_iter().map(|key| store.transact_with(JobOptions::SERVER_FIRST, move |tx| act(tx, key)));
    join_all(acts).await.into_iter().collect()
}

/// Extends the leases and the grace periods that had not ended at the time `live_at`. If the duration of a lease is
/// shorter than `lease::RECOVERY` (30 s), the extended lease expires one lease duration from now. Other extended leases
/// expire `lease::RECOVERY` from now, and extended grace periods end `lease::RECOVERY` from now. Returns the number of
/// extended leases and grace periods.
///
/// # Errors
/// Fails if the store can't be written.
pub async fn extend_live_leases(store: &Store, live_at: Timestamp) -> Result<u64> {
    store
        .transact_with(JobOptions::SERVER_FIRST, move |tx| {
            let now = tx.now();
            due::recover(tx, live_at, now)
        })
        .await
}
