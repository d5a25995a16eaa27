//! What the server throws away by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::{Store, requests};

/// How often it looks. What it forgets is kept for hours, so this needs no precision.
const PERIOD: Duration = Duration::from_secs(60);

/// Forgets old answers until the server shuts down.
pub async fn run(
    store: Store,
    clock: Arc<dyn Clock>,
    keep_requests_for: Duration,
    mut draining: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = draining.wait_for(|draining| *draining) => return,
        }
        if let Err(error) = forget_requests(&store, clock.as_ref(), keep_requests_for).await
            && error != Error::Draining
        {
            tracing::warn!(%error, "could not forget old answers");
        }
    }
}

/// Forgets the answers given longer ago than they are kept, in batches between which others have their turn.
pub async fn forget_requests(store: &Store, clock: &dyn Clock, keep_for: Duration) -> Result<u64> {
    let before = clock.now().minus(keep_for);
    let mut forgotten = 0;
    loop {
        let batch = store.transact(move |tx| requests::forget_before(tx, before)).await?;
        forgotten += batch;
        if batch == 0 {
            return Ok(forgotten);
        }
    }
}
