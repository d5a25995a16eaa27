//! This module removes stored responses after their retention time. If the operator limits the retention of events, the
//! module also removes old events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, SMALLEST_STEP};
use crate::domain::time::{ClockStep, Timestamp};
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

/// Removes stored responses and events whose retention time has passed, until the server shuts down or the store is
/// closed.
pub async fn run(store: Store, clock: Arc<dyn Clock>, keep: RetentionTimes, mut draining: watch::Receiver<bool>) {
    let mut past = PastTimes::new(clock.as_ref());
    loop {
        let next = clock.uptime() + keep.period();
        past.record(clock.as_ref(), keep);
        let cleaned = if store.has_sweeper_role() { clean_up(&store, &past, keep).await } else { Ok(()) };
        match cleaned {
            Ok(()) => {}
            Err(error) if error == Error::Draining || error.is_store_failure() => return,
            // The server logs the start and the end of the time in which the disk is full.
            Err(Error::StoreFull) => {}
            Err(error) => tracing::warn!(%error, "retention failed"),
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
pub async fn clean_up(store: &Store, past: &PastTimes, keep: RetentionTimes) -> Result<()> {
    let oldest_request = past.oldest_since(keep.requests_for);
    remove_in_batches(store, move |tx| requests::remove_before(tx, oldest_request)).await?;
    let Some(events_for) = keep.events_for else { return Ok(()) };
    let oldest_event = past.oldest_since(events_for);
    remove_in_batches(store, move |tx| compaction::remove_before(tx, oldest_event)).await
}

/// The times that the server has shown in the past. If the clock is set forward by a day, a row that was stored a
/// minute ago looks a day old. This history tells which rows are really old.
#[derive(Debug)]
pub struct PastTimes {
    /// The periods without a step of the clock, oldest first. The list is never empty.
    periods: VecDeque<Period>,
    /// The uptime of the newest record.
    uptime: Duration,
}

/// A period in which the clock was not set.
#[derive(Debug, Clone, Copy)]
struct Period {
    /// The uptime at the start of the period.
    start: Duration,
    /// The time of the server at the start of the period.
    time: Timestamp,
}

impl Period {
    /// Returns the time that the clock of this period shows at `uptime`, which can be before the period.
    fn time_at(self, uptime: Duration) -> Timestamp {
        self.time.plus(uptime.saturating_sub(self.start)).subtract_duration(self.start.saturating_sub(uptime))
    }
}

impl PastTimes {
    /// Returns the history of a server that has just started. The time before the start counts as passed by the clock.
    pub fn new(clock: &dyn Clock) -> Self {
        let uptime = clock.uptime();
        Self { periods: VecDeque::from([Period { start: uptime, time: clock.now() }]), uptime }
    }

    /// Records the current time, and forgets the periods that ended before the longest retention time.
    pub fn record(&mut self, clock: &dyn Clock, keep: RetentionTimes) {
        self.uptime = clock.uptime();
        let now = Period { start: self.uptime, time: clock.now() };
        let expected = self.periods.back().map_or(now.time, |newest| newest.time_at(self.uptime));
        if ClockStep::between(expected, now.time).size() >= SMALLEST_STEP {
            self.periods.push_back(now);
        }
        let longest = keep.requests_for.max(keep.events_for.unwrap_or_default());
        while self.periods.get(1).is_some_and(|next| next.start + longest < self.uptime) {
            self.periods.pop_front();
        }
    }

    /// Returns the oldest time that the server has shown in the last `duration`.
    fn oldest_since(&self, duration: Duration) -> Timestamp {
        let mut oldest = Timestamp::from_micros(i64::MAX);
        for period in self.periods.iter().rev() {
            match self.uptime.checked_sub(duration).filter(|then| *then >= period.start) {
                Some(then) => return oldest.min(period.time_at(then)),
                None => oldest = oldest.min(period.time),
            }
        }
        // The rest of the duration was before the start of the server.
        let before_start = duration.saturating_sub(self.uptime);
        oldest.min(
            self.periods.front().map_or(oldest, |first| first.time_at(Duration::ZERO)).subtract_duration(before_start),
        )
    }
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

#[cfg(test)]
mod tests;
