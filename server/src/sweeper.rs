//! What the server does by itself as time passes: it takes back leases that ran out, ends graces that are over, lets
//! approvals expire, and waiters the claims that waited for a task's time.
//!
//! It looks on a reader and acts by keys: what has happened to a row between the look and the act stands, because each
//! act asks again, in the transaction that writes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::actions::{approval, cancel, lease};
use crate::clock::{CLOCK_CHECK_INTERVAL, Clock};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::due::{self, Due};
use crate::store::{JobOptions, Signal, Store, Tx};
use crate::wake::Waiters;

/// After an error, a full disk say, it tries again so much later.
const RETRY: Duration = Duration::from_secs(1);

/// With nothing due it still looks so often: whatever it was not told of is late by no more.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A task's time may have come before the transaction was committed that says so: so much is looked at twice.
const OVERLAP: Duration = Duration::from_secs(2);

/// The one sweeper of a server.
pub struct Sweeper {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    /// When it was last known to be awake.
    awake_at: Timestamp,
    /// Since when time has stood still, if it has and nothing was done about that yet.
    stalled_since: Option<Timestamp>,
    /// Up to when tasks whose time has come were told of.
    looked_at: Timestamp,
}

impl Sweeper {
    /// A sweeper that has not looked yet.
    pub fn new(store: Store, clock: Arc<dyn Clock>, waiters: Arc<Waiters>) -> Self {
        let now = clock.now();
        Self { store, clock, waiters, awake_at: now, stalled_since: None, looked_at: now }
    }

    /// Sweeps until the server shuts down.
    pub async fn run(mut self, mut draining: watch::Receiver<bool>) {
        let mut next = self.clock.now();
        loop {
            if self.look_at_the_clock() >= next || self.stalled_since.is_some() {
                next = self.sweep_or_retry().await;
                continue;
            }
            tokio::select! {
                () = self.clock.sleep_until(next.min(self.awake_at.plus(CLOCK_CHECK_INTERVAL))) => {}
                () = self.waiters.due_timer.brought_forward() => next = self.waiters.due_timer.time().unwrap_or(next).min(next),
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    }

    async fn sweep_or_retry(&mut self) -> Timestamp {
        match self.sweep().await {
            Ok(next) => next.unwrap_or_else(|| self.clock.now().plus(LONGEST_SLEEP)),
            Err(error) => {
                if error != Error::Draining {
                    tracing::warn!(%error, "could not sweep");
                }
                self.clock.now().plus(RETRY)
            }
        }
    }

    /// Does everything that is due now; returns when the next thing will be.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn sweep(&mut self) -> Result<Option<Timestamp>> {
        let store = self.store.clone();
        loop {
            self.waiters.due_timer.reset();
            let now = self.look_at_the_clock();
            self.recover_from_stall().await?;
            let since = self.looked_at.minus(OVERLAP);
            let due = self.attend(store.read_as_server(move |tx| due::find(tx, since, now))).await?;
            self.looked_at = now;
            due.newly_ready.iter().for_each(|(run_key, tasks)| {
                self.waiters.handle(&Signal::Ready { run_key: *run_key, tasks: *tasks });
            });
            if due.changes_nothing() {
                break;
            }
            self.attend(act(&store, due, now)).await?;
        }
        let now = self.looked_at;
        if let Some(next) = self.attend(store.read_as_server(move |tx| due::next(tx, now))).await? {
            self.waiters.due_timer.bring_forward(next);
        }
        Ok(self.waiters.due_timer.time())
    }

    /// The time now. Whether it has stood still is seen by whoever looks often.
    fn look_at_the_clock(&mut self) -> Timestamp {
        let now = self.clock.now();
        if self.clock.has_stalled(self.awake_at, now) {
            self.stalled_since.get_or_insert(self.awake_at);
        }
        self.awake_at = now;
        now
    }

    /// Waits for something that may take its time, and looks at the clock meanwhile.
    async fn attend<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            let look = self.awake_at.plus(CLOCK_CHECK_INTERVAL);
            tokio::select! {
                done = &mut work => return done,
                () = self.clock.sleep_until(look) => {}
            }
            self.look_at_the_clock();
        }
    }

    /// Nothing is taken back before holders have had their time to report.
    async fn recover_from_stall(&mut self) -> Result<()> {
        if let Some(since) = self.stalled_since {
            let store = self.store.clone();
            let extended = self.attend(recover(&store, since)).await?;
            self.stalled_since = None;
            tracing::warn!(extended, "the server stood still: leases and graces live on for a while");
        }
        Ok(())
    }
}

/// Does what a look has found, each thing in a transaction of its own and only if it is still due.
///
/// # Errors
/// The store can't be written.
pub async fn act(store: &Store, due: Due, looked_at: Timestamp) -> Result<()> {
    // Graces first: a lease that ends with its grace is no holder that died.
    each(store, due.graces, cancel::finish_if_over).await?;
    each(store, due.leases, move |tx, key| lease::expire(tx, key, looked_at)).await?;
    each(store, due.approvals, approval::expire).await
}

/// All of them are queued at once, in their order, and so share a commit.
async fn each<F>(store: &Store, keys: Vec<Key>, act: F) -> Result<()>
where
    F: Fn(&mut dyn Tx, Key) -> Result<bool> + Copy + Send + 'static,
{
    let acts = keys.into_iter().map(|key| store.transact_with(JobOptions::SERVER_FIRST, move |tx| act(tx, key)));
    // One that fails is no reason to drop the others.
    join_all(acts).await.into_iter().try_for_each(|done| done.map(drop))
}

/// Lets every lease that was live at a time live on for a while. Returns how many were extended.
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
