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
    /// Waits until it is so late, or until a stall is over.
    fn sleep_until(&self, time: Timestamp) -> Sleep<'_>;
}

/// A wait.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = Woken> + Send + 'a>>;

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// It is so late.
    InTime,
    /// The process stood still for over a second (it was stopped, the machine slept, the clock was set on), from about
    /// this time until now.
    Stalled(Timestamp),
}

/// How often a sleeper looks whether time has stood still. What is below a second is no stall.
const NAP: Duration = Duration::from_millis(250);
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
            loop {
                let before = self.now();
                if before >= time {
                    return Woken::InTime;
                }
                let nap = time.since(before).min(NAP);
                tokio::time::sleep(nap).await;
                if self.now().since(before) > nap + STALL {
                    return Woken::Stalled(before);
                }
            }
        })
    }
}

/// A clock that stands still until it is moved: for tests.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<watch::Sender<ManualTime>>);

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    now: Timestamp,
    stalls: u32,
    stalled_since: Timestamp,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(watch::Sender::new(ManualTime { now: start, stalls: 0, stalled_since: start })))
    }

    /// Moves the clock on, as if time had passed.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|time| time.now = time.now.plus(by));
    }

    /// Moves the clock on, as if the process had stood still meanwhile.
    pub fn stall(&self, by: Duration) {
        self.0.send_modify(|time| {
            *time = ManualTime { now: time.now.plus(by), stalls: time.stalls + 1, stalled_since: time.now };
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }

    fn sleep_until(&self, until: Timestamp) -> Sleep<'_> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            let stalls = time.borrow().stalls;
            let woken = time.wait_for(|time| time.stalls != stalls || time.now >= until).await;
            match woken {
                Ok(time) if time.stalls != stalls => Woken::Stalled(time.stalled_since),
                _ => Woken::InTime,
            }
        })
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
