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
use crate::clock::{CLOCK_CHECK_INTERVAL, Clock, SMALLEST_STEP};
use crate::domain::Key;
use crate::domain::task::Task;
use crate::domain::time::{ClockStep, Timestamp};
use crate::error::{Error, Result};
use crate::store::due::{self, DueRows};
use crate::store::{JobOptions, RoleClaim, Store, Tx};
use crate::wake::Waiters;

/// Time that the sweeper waits after an error, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum time between two sweeps. If a due time was never reported to the sweeper, this time bounds the delay of the
/// action.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Minimum difference from the wall clock that the sweeper corrects. A smaller difference can be an inexact reading.
const SMALLEST_DIFFERENCE: Duration = Duration::from_millis(10);

/// The sweeper of a server. Each server runs exactly one sweeper, but of several servers on one database only the sweeper
/// with the role sweeps.
pub struct Sweeper {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    last_clock_check: ClockCheck,
    /// The start of a stall, a clock step or a full disk after which the leases have not been extended yet. If no lease
    /// must be extended, the value is None.
    stalled_since: Option<Timestamp>,
    /// The uptime before which the sweeper must not try again after a failure.
    retry_at: Duration,
}

/// A reading of the clock.
#[derive(Debug, Clone, Copy)]
struct ClockCheck {
    uptime: Duration,
    time: Timestamp,
}

impl Sweeper {
    /// Returns a sweeper that has not swept yet.
    pub fn new(store: Store, clock: Arc<dyn Clock>, waiters: Arc<Waiters>) -> Self {
        let last_clock_check = ClockCheck { uptime: clock.uptime(), time: clock.now() };
        Self { store, clock, waiters, last_clock_check, stalled_since: None, retry_at: Duration::ZERO }
    }

    /// Returns the sweeper with the task to extend the leases that were live at `live_at`, before the sweeper expires
    /// any lease.
    pub fn extending_leases_since(self, live_at: Timestamp) -> Self {
        Self { stalled_since: Some(live_at), ..self }
    }

    /// Sweeps whenever an action is due, until the server shuts down or the store is closed.
    pub async fn run(mut self, mut draining: watch::Receiver<bool>) {
        let mut next = self.clock.now();
        let mut store_state = self.store.state();
        let mut role = self.store.sweeper_role();
        loop {
            let now = self.check_clock();
            let is_due = self.stalled_since.is_some() || (now >= next && self.store.has_sweeper_role());
            if is_due && self.clock.uptime() >= self.retry_at {
                let Some(next_sweep) = self.sweep_or_retry().await else { return };
                next = next_sweep;
                continue;
            }
            let can_wait = !is_due && self.store.has_sweeper_role();
            let pause = if can_wait { next.duration_since(now) } else { CLOCK_CHECK_INTERVAL };
            tokio::select! {
                () = self.clock.sleep_until(self.next_clock_check(pause)) => {}
                () = self.waiters.due_timer.wait_until_brought_forward() => {
                    next = self.waiters.due_timer.next_time().unwrap_or(next).min(next);
                }
                // The previous sweeper may have left due rows.
                _ = role.changed() => next = self.clock.now(),
                // The loop checks for a full disk. If the store is dropped, the server is shutting down.
                changed = store_state.changed() => if changed.is_err() { return },
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    }

    /// Returns the time of the next sweep, or None if the store is closed.
    async fn sweep_or_retry(&mut self) -> Option<Timestamp> {
        match self.sweep().await {
            Ok(next) => Some(next.unwrap_or_else(|| self.clock.now().plus(LONGEST_SLEEP))),
            Err(error) if error == Error::Draining || error.is_store_failure() => None,
            Err(error) => {
                // The server logs the start and the end of the time in which the disk is full.
                if error != Error::StoreFull {
                    tracing::warn!(%error, retry_seconds = RETRY.as_secs(), "sweep failed");
                }
                self.retry_at = self.clock.uptime() + RETRY;
                Some(self.clock.now())
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
            self.check_clock();
            self.recover_from_stall().await?;
            if !self.store.has_sweeper_role() {
                return Ok(None);
            }
            let now = self.clock.now();
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

    /// Reads the clock and returns the time. Records a stall of the process or of the writer, a step of the clock since
    /// the last check, and a full disk.
    fn check_clock(&mut self) -> Timestamp {
        let uptime = self.clock.uptime();
        let last = self.last_clock_check;
        let step = self.clock.step();
        let is_stepped = step.size() >= SMALLEST_STEP;
        // If several servers share the database, only the sweeper moves the stored times. The other servers only follow
        // the clock.
        let only_follows = !is_stepped || !self.store.has_sweeper_role();
        if only_follows && step.size() >= SMALLEST_DIFFERENCE {
            self.clock.adopt(step);
        }
        if is_stepped || self.clock.has_stalled(last.uptime, uptime) {
            self.stalled_since.get_or_insert(last.time);
        }
        if let Some(full_since) = self.store.full_since() {
            self.record_full_disk(full_since);
        }
        if let Some(since) = self.store.stalled_since() {
            self.stalled_since = Some(self.stalled_since.map_or(since, |earlier| earlier.min(since)));
        }
        let now = self.clock.now();
        self.last_clock_check = ClockCheck { uptime, time: now };
        now
    }

    /// Records that the server has written nothing since `full_since`. If the sweeper learns this now, the first
    /// attempt to write follows after `RETRY`.
    fn record_full_disk(&mut self, full_since: Timestamp) {
        if self.stalled_since.is_none_or(|stalled_since| full_since < stalled_since) {
            self.stalled_since = Some(full_since);
            self.retry_at = self.clock.uptime() + RETRY;
        }
    }

    /// Returns the uptime of the next clock check: after `pause`, but at most `CLOCK_CHECK_INTERVAL` after the last
    /// check.
    fn next_clock_check(&self, pause: Duration) -> Duration {
        self.last_clock_check.uptime + pause.min(CLOCK_CHECK_INTERVAL)
    }

    /// Waits for a future and returns the future's result. Checks the clock every `CLOCK_CHECK_INTERVAL` during the
    /// wait, because otherwise a slow future would count as a stall.
    async fn watch_clock_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.clock.sleep_until(self.next_clock_check(CLOCK_CHECK_INTERVAL)) => {}
            }
            self.check_clock();
        }
    }

    /// After a stall, a step of the clock or a full disk, extends the leases and follows the clock. Fails if the store
    /// can't be written.
    async fn recover_from_stall(&mut self) -> Result<()> {
        let Some(live_at) = self.stalled_since else { return Ok(()) };
        let step = Some(self.clock.step()).filter(|step| step.size() >= SMALLEST_STEP).unwrap_or(ClockStep::NONE);
        let store = self.store.clone();
        let recovery = store.transact_with(JobOptions::recovering_since(live_at), move |tx| {
            // Assign a key, so that the transaction writes even if no agent holds a lease. Otherwise the commit would
            // succeed on a full disk.
            tx.next_key()?;
            lease::recover(tx, live_at, step)
        });
        let extended = self.watch_clock_during(recovery).await?;
        self.stalled_since = None;
        let step_ms = step.micros() / 1_000;
        tracing::warn!(
            extended,
            step_ms,
            "leases and grace periods extended after a stall, a clock step or a full disk"
        );
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
///
/// After a stall of the writer, a transaction changes nothing and returns the default, because the leases and the grace
/// periods must be extended first.
async fn transact_each<T, F>(store: &Store, keys: Vec<Key>, act: F) -> Result<Vec<T>>
where
    T: Default + Send + 'static,
    F: Fn(&mut dyn Tx, Key) -> Result<T> + Copy + Send + 'static,
{
    let acts = keys.into_iter().map(|key| {
        let stalled = store.clone();
        store.transact_with(JobOptions::SERVER_FIRST, move |tx| {
            if stalled.stalled_since().is_some() { Ok(T::default()) } else { act(tx, key) }
        })
    });
    join_all(acts).await.into_iter().collect()
}

/// Takes the role of the sweeper at the start of a server, if no other server has it. If no server swept for some time,
/// extends the leases and grace periods that were live then, because agents could not send heartbeats. Returns the start
/// of that time.
///
/// # Errors
/// Fails if the store can't be written.
pub async fn take_role(store: &Store) -> Result<Option<Timestamp>> {
    let live_at = match store.claim_sweeper_role().await? {
        RoleClaim::HeldByOther | RoleClaim::TakenAfter(None) => return Ok(None),
        RoleClaim::TakenAfter(Some(live_at)) => live_at,
        // A server on SQLite is alone, so no server swept before its start.
        RoleClaim::Renewed => RoleClaim::ALL_TIMES,
    };
    let recovery = JobOptions::recovering_since(live_at);
    store.transact_with(recovery, move |tx| lease::recover(tx, live_at, ClockStep::NONE)).await?;
    Ok(Some(live_at))
}

#[cfg(test)]
mod tests;
