//! This module supplies the time, ids and lease tokens. Tests replace the clock to control the time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use uuid::{ContextV7, Uuid};

use crate::domain::time::Timestamp;

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
    /// Waits until the clock shows `time` or later.
    fn sleep_until(&self, time: Timestamp) -> Sleep<'_>;
    /// Returns whether the process stalled for more than `STALL` between two readings of the clock. If the process is
    /// stopped, the machine is suspended, or the clock is set forward, the process stalls. The caller must read the
    /// clock at least every `CLOCK_CHECK_INTERVAL`. Otherwise the caller's own pause counts as a stall.
    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool;
}

/// A future that completes when a clock shows a certain time.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Maximum time between two readings of the clock by a caller of `has_stalled`.
pub const CLOCK_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum time between two readings of the clock that does not count as a stall. A busy machine can cause pauses of up
/// to 1 s.
const STALL: Duration = Duration::from_secs(1);

/// The wall clock of the machine.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // This is the one place that reads the wall clock.
    fn now(&self) -> Timestamp {
        // If the wall clock shows a time before 1970, use 1970, because `duration_since` fails for earlier times.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, time: Timestamp) -> Sleep<'_> {
        Box::pin(async move {
            // The timer uses the monotonic clock, so one sleep can end before the wall clock shows `time`.
            while self.now() < time {
                tokio::time::sleep(time.duration_since(self.now())).await;
            }
        })
    }

    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool {
        to.duration_since(from) > STALL
    }
}

/// A clock for tests. The clock shows the same time until a test moves the clock forward.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<watch::Sender<ManualTime>>);

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    now: Timestamp,
    /// The time when the last stall started. If the process has not stalled, the value is None.
    stalled_at: Option<Timestamp>,
}

impl ManualClock {
    /// Returns a clock that shows `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(watch::Sender::new(ManualTime { now: start, stalled_at: None })))
    }

    /// Moves the clock forward by the duration `by`, without a stall of the process.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|time| time.now = time.now.plus(by));
    }

    /// Moves the clock forward by the duration `by`, and records a stall of the process.
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
            // Ignore the error, which means that the test has dropped the clock.
            let _ = time.wait_for(|time| time.now >= until).await;
        })
    }

    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool {
        self.0.borrow().stalled_at.is_some_and(|stalled_at| from <= stalled_at && stalled_at < to)
    }
}

/// A source of ids that increase with time, so that an index stores new rows next to each other.
#[derive(Debug)]
pub struct IdGenerator(ContextV7);

impl IdGenerator {
    /// Returns a new source of ids. The ids of two sources are distinct, but are not ordered within a millisecond.
    pub fn new() -> Self {
        Self(ContextV7::new())
    }

    /// Returns a new UUIDv7 for the time `now` as text.
    pub fn next(&self, now: Timestamp) -> String {
        let (seconds, nanos) = now.seconds_and_nanos();
        let time = uuid::Timestamp::from_unix(&self.0, seconds.unsigned_abs(), nanos.unsigned_abs());
        Uuid::new_v7(time).to_string()
    }
}

impl Default for IdGenerator {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns an unpredictable lease token, which contains 122 random bits as text.
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
