//! What the server throws away by itself: old answers, and if it is told to, old events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::{JobOptions, Store, Tx, compaction, requests};

/// How often it looks. What is kept for hours needs no precision.
const PERIOD: Duration = Duration::from_secs(60);

/// How often it looks at most, however short events are kept.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// How long what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// Answers to requests with a request_id.
    pub requests_for: Duration,
    /// Events; None: for ever.
    pub events_for: Option<Duration>,
}

impl Keep {
    /// So that events are late by a tenth of their time at most.
    fn period(self) -> Duration {
        self.events_for.map_or(PERIOD, |keep| (keep / 10).clamp(SHORTEST_PERIOD, PERIOD))
    }
}

/// Throws away what is old until the server shuts down.
pub async fn run(store: Store, clock: Arc<dyn Clock>, keep: Keep, mut draining: watch::Receiver<bool>) {
    loop {
        let next = clock.now().plus(keep.period());
        if let Err(error) = clean_up(&store, clock.as_ref(), keep).await
            && error != Error::Draining
        {
            tracing::warn!(%error, "could not throw away what is old");
        }
        tokio::select! {
            () = clock.sleep_until(next) => {}
            _ = draining.wait_for(|draining| *draining) => return,
        }
    }
}

/// Throws away what is old now.
///
/// # Errors
/// The store can't be written.
pub async fn clean_up(store: &Store, clock: &dyn Clock, keep: Keep) -> Result<()> {
    let forgotten = clock.now().minus(keep.requests_for);
    in_batches(store, move |tx| requests::remove_before(tx, forgotten)).await?;
    let Some(events_for) = keep.events_for else { return Ok(()) };
    let removed = clock.now().minus(events_for);
    in_batches(store, move |tx| compaction::remove_before(tx, removed)).await
}

/// In batches, between which others have their turn.
async fn in_batches<F>(store: &Store, batch: F) -> Result<()>
where
    F: Fn(&mut dyn Tx) -> Result<u64> + Copy + Send + 'static,
{
    while store.transact_with(JobOptions::SERVER, batch).await? > 0 {}
    Ok(())
}
