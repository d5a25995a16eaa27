//! Time and randomness, passed in so that tests can control them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use uuid::{ContextV7, Uuid};

use crate::domain::time::Timestamp;

/// The source of the time.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
    /// Waits until the clock shows `time` or later.
    fn sleep_until(&self, time: Timestamp) -> Sleep<'_>;
    /// Returns whether the process stalled for more than `STALL` between two readings of the clock: it was stopped, the
    /// machine was suspended, or the clock was set forward. The caller must read the clock at least every
    /// `CLOCK_CHECK_INTERVAL`; otherwise its own pause looks like a stall.
    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool;
}

/// A future that ends at a time.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// How often a caller of `has_stalled` reads the clock.
pub const CLOCK_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Pauses up to this long are not a stall: a busy machine causes them.
const STALL: Duration = Duration::from_secs(1);

/// The machine's wall clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // This is the one place that reads the wall clock.
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970, because the server needs no earlier time.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, time: Timestamp) -> Sleep<'_> {
        Box::pin(async move {
            // The timer runs on the monotonic clock, so it can fire early by the wall clock.
            while self.now() < time {
                tokio::time::sleep(time.since(self.now())).await;
            }
        })
    }

    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool {
        to.since(from) > STALL
    }
}

/// A clock for tests. It shows the same time until a test moves it.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<watch::Sender<ManualTime>>);

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    now: Timestamp,
    /// The time at which the last stall began.
    stalled_at: Option<Timestamp>,
}

impl ManualClock {
    /// Returns a clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(watch::Sender::new(ManualTime { now: start, stalled_at: None })))
    }

    /// Moves the clock forward, as if time had passed normally.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|time| time.now = time.now.plus(by));
    }

    /// Moves the clock forward, as if the process had stalled meanwhile.
    pub fn stall(&self, by: Duration) {
        self.0.send_modify(|time| *time = ManualTime { now: time.now.plus(by), stalled_at: Some(time.now) });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }

    fn sleep_until(&self, until: Timestamp) -> Sleep<'_> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            // An error means that the clock was dropped, so nobody can move it any more.
            let _ = time.wait_for(|time| time.now >= until).await;
        })
    }

    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool {
        self.0.borrow().stalled_at.is_some_and(|stalled_at| from <= stalled_at && stalled_at < to)
    }
}

/// A source of ids that ascend with time, so that new rows are neighbors in an index.
#[derive(Debug)]
pub struct Ids(ContextV7);

impl Ids {
    /// Returns a new source. Ids of two sources are unique, but not ordered within a millisecond.
    pub fn new() -> Self {
        Self(ContextV7::new())
    }

    /// Returns a new UUIDv7 as text.
    pub fn next(&self, now: Timestamp) -> String {
        let (seconds, nanos) = now.seconds_and_nanos();
        let time = uuid::Timestamp::from_unix(&self.0, seconds.unsigned_abs(), nanos.unsigned_abs());
        Uuid::new_v7(time).to_string()
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a lease token that nobody can guess: 122 random bits as text.
#[allow(clippy::disallowed_methods)] // This is the one place that makes tokens.
pub fn new_token() -> String {
    Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_of_more_than_a_second_is_a_stall() {
        let at = |millis: i64| Timestamp::from_micros(millis * 1_000);
        assert!(!SystemClock.has_stalled(at(0), at(1_000)));
        assert!(SystemClock.has_stalled(at(0), at(1_001)));
        assert!(!SystemClock.has_stalled(at(9_000), at(0)), "a clock that is set back is not a stall");
    }
}
