//! This module removes stored responses after their retention time. If the operator limits the retention of events, the
//! module also removes old events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::{JobOptions, Store, Tx, compaction, requests};

/// Maximum time between two cleanups. Most retention times are hours or days, so a delay of one minute does not matter.
const PERIOD: Duration = Duration::from_secs(60);

/// Minimum time between two cleanups. If the retention time is short, this minimum bounds the cost of the cleanups.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// The times after which the server removes stored responses and events.
#[derive(Debug, Clone, Copy)]
pub struct RetentionTimes {
    /// The time after which the server removes the response to a request with a request_id.
    pub requests_for: Duration,
    /// The time after which the server removes an event. None means that the server keeps all events.
    pub events_for: Option<Duration>,
}

impl RetentionTimes {
    /// Returns the time between two cleanups: a tenth of the retention time of events, but at least `SHORTEST_PERIOD`
    /// and at most `PERIOD`.
    fn period(self) -> Duration {
        self.events_for.map_or(PERIOD, |keep| (keep / 10).clamp(SHORTEST_PERIOD, PERIOD))
    }
}

/// Removes stored responses and events whose retention time has passed, until the server shuts down.
pub async fn run(store: Store, clock: Arc<dyn Clock>, keep: RetentionTimes, mut draining: watch::Receiver<bool>) {
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

/// Removes all stored responses and events whose retention time has passed.
///
/// # Errors
/// Fails if the store can't be written.
pub async fn clean_up(store: &Store, clock: &dyn Clock, keep: RetentionTimes) -> Result<()> {
    let oldest_request = clock.now().subtract_duration(keep.requests_for);
    remove_in_batches(store, move |tx| requests::remove_before(tx, oldest_request)).await?;
    let Some(events_for) = keep.events_for else { return Ok(()) };
    let oldest_event = clock.now().subtract_duration(events_for);
    remove_in_batches(store, move |tx| compaction::remove_before(tx, oldest_event)).await
}

/// Runs `batch` until a batch removes no row. Each batch has its own transaction, so that other transactions can run
/// between the batches. Fails if the store can't be written.
async fn remove_in_batches<F>(store: &Store, batch: F) -> Result<()>
where
    F: Fn(&mut dyn Tx) -> Result<u64> + Copy + Send + 'static,
{
    while store.transact_with(JobOptions::SERVER, batch).await? > 0 {}
    Ok(())
}
