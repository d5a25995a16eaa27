//! Time and randomness, passed in so that tests can set them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use uuid::{ContextV7, Uuid};

use crate::domain::time::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// Waits until it is so late.
    fn sleep_until(&self, time: Timestamp) -> Sleep<'_>;
    /// Between two looks at the clock the process stood still for over a second: it was stopped, the machine slept, or
    /// the clock was set on. For one who looks at least every `CLOCK_CHECK_INTERVAL`.
    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool;
}

/// A wait.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// How often one has to look to notice that time has stood still.
pub const CLOCK_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// What is below that is no stall.
const STALL: Duration = Duration::from_secs(1);

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970: nothing here depends on more.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, time: Timestamp) -> Sleep<'_> {
        Box::pin(async move {
            // The timer's clock is another one: it may be early by this one.
            while self.now() < time {
                tokio::time::sleep(time.since(self.now())).await;
            }
        })
    }

    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool {
        to.since(from) > STALL
    }
}

/// A clock that stands still until it is moved: for tests.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<watch::Sender<ManualTime>>);

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    now: Timestamp,
    /// When it last stood still.
    stalled_at: Option<Timestamp>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(watch::Sender::new(ManualTime { now: start, stalled_at: None })))
    }

    /// Moves the clock on, as if time had passed.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|time| time.now = time.now.plus(by));
    }

    /// Moves the clock on, as if the process had stood still meanwhile.
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
            // An error means that the clock is gone, and with it whoever could move it.
            let _ = time.wait_for(|time| time.now >= until).await;
        })
    }

    fn has_stalled(&self, from: Timestamp, to: Timestamp) -> bool {
        self.0.borrow().stalled_at.is_some_and(|stalled_at| from <= stalled_at && stalled_at < to)
    }
}

/// Makes ids that ascend with time: they land side by side in an index.
#[derive(Debug)]
pub struct Ids(ContextV7);

impl Ids {
    /// A source of its own: ids of two sources are unique but not ordered within a millisecond.
    pub fn new() -> Self {
        Self(ContextV7::new())
    }

    /// A new UUIDv7, as text.
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

/// A token nobody can guess: 122 random bits, as text.
#[allow(clippy::disallowed_methods)]
pub fn new_token() -> String {
    Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_second_is_a_stall_for_one_who_looks_often_enough() {
        let at = |millis: i64| Timestamp::from_micros(millis * 1_000);
        assert!(!SystemClock.has_stalled(at(0), at(1_000)));
        assert!(SystemClock.has_stalled(at(0), at(1_001)));
        assert!(!SystemClock.has_stalled(at(9_000), at(0)), "a clock set back is no stall");
    }
}
