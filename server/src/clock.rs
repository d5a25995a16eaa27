//! This module supplies the time, ids and lease tokens. Tests replace the clock to control the time.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use uuid::{ContextV7, Uuid};

use crate::domain::time::{ClockStep, Timestamp};

/// A source of the current time.
///
/// The time of the server is the wall clock, but does not follow a step of the wall clock at once. If the wall clock is
/// set, `step` returns the difference, and the time of the server goes on without the step until `adopt` is called. The
/// server first corrects the stored times that must not follow the step, such as the ends of leases.
pub trait Clock: Send + Sync {
    /// Returns the current time of the server.
    fn now(&self) -> Timestamp;
    /// Returns the time since the clock was created. This time never jumps, even if the wall clock is set.
    fn uptime(&self) -> Duration;
    /// Waits until `uptime` returns at least this value.
    fn sleep_until(&self, uptime: Duration) -> Sleep<'_>;
    /// Returns whether the process stalled for more than `STALL` between two values of `uptime`. If the process is
    /// stopped, the process stalls. The caller must read the clock at least every `CLOCK_CHECK_INTERVAL`. Otherwise the
    /// caller's own pause counts as a stall.
    fn has_stalled(&self, from: Duration, to: Duration) -> bool;
    /// Returns the difference from the time of the server to the wall clock. If the wall clock was set, or if the
    /// machine was suspended, the difference is large.
    fn step(&self) -> ClockStep;
    /// Changes the time of the server by `step`.
    fn adopt(&self, step: ClockStep);
    /// Makes the server follow the clock of a database that several servers use, instead of the wall clock. `time` is
    /// what the database showed at the uptime `at`. Call this function again before the clocks can drift apart.
    fn follow(&self, at: Duration, time: Timestamp);
}

/// A future that completes when a clock shows a certain time.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Maximum time between two readings of the clock by a caller of `has_stalled`.
pub const CLOCK_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum time between two readings of the clock that does not count as a stall. A busy machine can cause pauses of up
/// to 1 s.
const STALL: Duration = Duration::from_secs(1);

/// Minimum step of the wall clock that the server handles like a stall. The server follows a smaller step without moving
/// the ends of leases, because the sweeper itself can be late by this time.
pub const SMALLEST_STEP: Duration = Duration::from_secs(1);

/// The clocks of the machine: the wall clock and the monotonic clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    /// The time of the server when the clock was created, plus all adopted steps, in microseconds.
    start_time: AtomicI64,
    /// An uptime, and what the database showed at it. If the server follows the wall clock, the value is None.
    followed: Mutex<Option<(Duration, Timestamp)>>,
}

/// Maximum time between two readings of the monotonic clock if the wall clock is read between them. With a longer time,
/// the difference of the two clocks would be inexact.
const LONGEST_READING: Duration = Duration::from_millis(1);

/// Maximum number of attempts to read the two clocks within `LONGEST_READING`.
const READINGS: usize = 10;

impl SystemClock {
    /// Returns a clock that shows the time of the wall clock.
    pub fn new() -> Self {
        let start_time = AtomicI64::new(read_wall_clock().micros());
        Self { started: Instant::now(), start_time, followed: Mutex::default() }
    }

    fn time_at(&self, uptime: Duration) -> Timestamp {
        Timestamp::from_micros(self.start_time.load(Ordering::Acquire)).plus(uptime)
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods)] // This is the one place that reads the wall clock.
fn read_wall_clock() -> Timestamp {
    // If the wall clock shows a time before 1970, use 1970, because `duration_since` fails for earlier times.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.time_at(self.uptime())
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep_until(&self, uptime: Duration) -> Sleep<'_> {
        Box::pin(tokio::time::sleep(uptime.saturating_sub(self.uptime())))
    }

    fn has_stalled(&self, from: Duration, to: Duration) -> bool {
        to.saturating_sub(from) > STALL
    }

    fn step(&self) -> ClockStep {
        if let Some((at, time)) = *self.followed.lock().unwrap_or_else(PoisonError::into_inner) {
            return ClockStep::between(self.time_at(at), time);
        }
        for _ in 0..READINGS {
            let before = self.uptime();
            let wall_clock = read_wall_clock();
            if self.uptime() - before <= LONGEST_READING {
                return ClockStep::between(self.time_at(before), wall_clock);
            }
        }
        // The machine is too busy for an exact difference, so the caller looks again at its next check.
        ClockStep::NONE
    }

    fn adopt(&self, step: ClockStep) {
        self.start_time.fetch_add(step.micros(), Ordering::AcqRel);
    }

    fn follow(&self, at: Duration, time: Timestamp) {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, time));
    }
}

/// A clock for tests. The clock shows the same time until a test moves the clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<watch::Sender<ManualTime>>);

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    now: Timestamp,
    uptime: Duration,
    /// The uptime when the last stall started. If the process has not stalled, the value is None.
    stalled_at: Option<Duration>,
    /// The step that the server has not adopted yet.
    step: ClockStep,
}

impl ManualTime {
    fn advance(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.uptime += by;
    }
}

impl ManualClock {
    /// Returns a clock that shows `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        let time = ManualTime { now: start, uptime: Duration::ZERO, stalled_at: None, step: ClockStep::NONE };
        Self(Arc::new(watch::Sender::new(time)))
    }

    /// Moves the clock forward by the duration `by`, without a stall of the process.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|time| time.advance(by));
    }

    /// Moves the clock forward by the duration `by`, and records a stall of the process.
    pub fn stall(&self, by: Duration) {
        self.0.send_modify(|time| {
            time.stalled_at = Some(time.uptime);
            time.advance(by);
        });
    }

    /// Sets the wall clock forward by the duration `by`.
    pub fn set_forward(&self, by: Duration) {
        self.0.send_modify(|time| time.step = time.step.then(ClockStep::between(time.now, time.now.plus(by))));
    }

    /// Sets the wall clock back by the duration `by`.
    pub fn set_back(&self, by: Duration) {
        self.0.send_modify(|time| {
            time.step = time.step.then(ClockStep::between(time.now, time.now.subtract_duration(by)));
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }

    fn uptime(&self) -> Duration {
        self.0.borrow().uptime
    }

    fn sleep_until(&self, uptime: Duration) -> Sleep<'_> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            // Ignore the error, which means that the test has dropped the clock.
            let _ = time.wait_for(|time| time.uptime >= uptime).await;
        })
    }

    fn has_stalled(&self, from: Duration, to: Duration) -> bool {
        self.0.borrow().stalled_at.is_some_and(|stalled_at| from <= stalled_at && stalled_at < to)
    }

    fn step(&self) -> ClockStep {
        self.0.borrow().step
    }

    fn adopt(&self, step: ClockStep) {
        self.0.send_modify(|time| {
            let now = time.now.after_step(step);
            time.step = ClockStep::between(now, time.now.after_step(time.step));
            time.now = now;
        });
    }

    /// Does nothing, because a test moves the clock.
    fn follow(&self, _at: Duration, _time: Timestamp) {}
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
        let clock = SystemClock::new();
        assert!(!clock.has_stalled(Duration::ZERO, Duration::from_millis(1_000)));
        assert!(clock.has_stalled(Duration::ZERO, Duration::from_millis(1_001)));
    }

    #[test]
    fn server_time_follows_the_wall_clock_only_by_adopted_steps() {
        let clock = SystemClock::new();
        let hour = Duration::from_secs(3_600);
        // Make the server time wrong by an hour, as if the wall clock had been set back by an hour.
        let before = clock.now();
        clock.adopt(ClockStep::between(before, before.plus(hour)));
        assert!(clock.now() >= before.plus(hour));
        let step = clock.step();
        assert!(step.size() > hour - Duration::from_secs(60) && step < ClockStep::NONE, "{step:?}");
        clock.adopt(step);
        assert!(clock.step().size() < Duration::from_secs(60));
    }

    #[test]
    fn server_time_follows_the_clock_of_a_database_instead_of_the_wall_clock() {
        let clock = SystemClock::new();
        let hour = Duration::from_secs(3_600);
        let at = clock.uptime();
        clock.follow(at, clock.time_at(at).plus(hour));
        assert_eq!(clock.step().micros(), 3_600_000_000);
        clock.adopt(clock.step());
        assert_eq!(clock.step(), ClockStep::NONE);
        assert!(clock.now() >= clock.time_at(at) && clock.now().duration_since(read_wall_clock()) > hour / 2);
    }

    #[test]
    fn manual_clock_shows_a_step_after_adoption() {
        let clock = ManualClock::starting_at(Timestamp::from_micros(0).plus(Duration::from_secs(100)));
        let start = clock.now();
        clock.set_back(Duration::from_secs(30));
        clock.set_forward(Duration::from_secs(10));
        assert_eq!((clock.now(), clock.step().micros()), (start, -20_000_000));
        clock.adopt(clock.step());
        assert_eq!((clock.now(), clock.step()), (start.subtract_duration(Duration::from_secs(20)), ClockStep::NONE));
        assert_eq!(clock.uptime(), Duration::ZERO);
    }
}
