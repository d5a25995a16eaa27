//! Retention: removes remembered answers after their time, and old events if the operator asked for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::{JobOptions, Store, Tx, compaction, requests};

/// The longest time between two rounds. Rows are kept for hours or days, so a minute more does not matter.
const PERIOD: Duration = Duration::from_secs(60);

/// The shortest time between two rounds, however short the retention is.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// How long the server keeps rows that it removes by itself.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// How long it keeps the answers to requests with a request_id.
    pub requests_for: Duration,
    /// How long it keeps events; None: forever.
    pub events_for: Option<Duration>,
}

impl Keep {
    /// Returns the time between two rounds: at most a tenth of the time that events are kept.
    fn period(self) -> Duration {
        self.events_for.map_or(PERIOD, |keep| (keep / 10).clamp(SHORTEST_PERIOD, PERIOD))
    }
}

/// Removes old rows until the server shuts down.
pub async fn run(store: Store, clock: Arc<dyn Clock>, keep: Keep, mut draining: watch::Receiver<bool>) {
    loop {
        let next = clock.now().plus(keep.period());
        if let Err(error) = clean_up(&store, clock.as_ref(), keep).await
            && error != Error::Draining
        {
            tracing::warn!(%error, "retention failed");
        }
        tokio::select! {
            () = clock.sleep_until(next) => {}
            _ = draining.wait_for(|draining| *draining) => return,
        }
    }
}

/// Removes the rows that are old now.
///
/// # Errors
/// The store can't be written.
pub async fn clean_up(store: &Store, clock: &dyn Clock, keep: Keep) -> Result<()> {
    let oldest_request = clock.now().minus(keep.requests_for);
    in_batches(store, move |tx| requests::remove_before(tx, oldest_request)).await?;
    let Some(events_for) = keep.events_for else { return Ok(()) };
    let oldest_event = clock.now().minus(events_for);
    in_batches(store, move |tx| compaction::remove_before(tx, oldest_event)).await
}

/// Runs a batch again until it removes nothing. Other transactions run between two batches.
async fn in_batches<F>(store: &Store, batch: F) -> Result<()>
where
    F: Fn(&mut dyn Tx) -> Result<u64> + Copy + Send + 'static,
{
    while store.transact_with(JobOptions::SERVER, batch).await? > 0 {}
    Ok(())
}
