//! This module finds the steps of the writer in which heartbeats had to wait so long that a lease could end.

use std::time::Duration;

use crate::clock::Clock;

/// Time after a stall in which only a long stall counts. On a disk where each commit takes longer than a second, the
/// leases would otherwise be extended again and again, and the lease of a dead agent would never expire. Heartbeats that
/// wait for a slow commit run before an expiry that is queued later.
const PAUSE: Duration = Duration::from_secs(60);

/// Minimum duration of a long stall.
const LONG: Duration = Duration::from_secs(10);

/// Remembers the last stall of the writer.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// The uptime at the end of the last stall that counted.
    last_end: Option<Duration>,
}

impl Stalls {
    /// Returns whether a step of the writer, from the uptime `begun` until now, counts as a stall.
    pub fn count(&mut self, begun: Duration, clock: &dyn Clock) -> bool {
        let now = clock.uptime();
        let is_recent = self.last_end.is_some_and(|end| now.saturating_sub(end) < PAUSE);
        let is_long = now.saturating_sub(begun) >= LONG;
        let counts = clock.has_stalled(begun, now) && (is_long || !is_recent);
        if counts {
            self.last_end = Some(now);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::time::Timestamp;

    fn step(stalls: &mut Stalls, clock: &ManualClock, seconds: u64) -> bool {
        let begun = clock.uptime();
        clock.stall(Duration::from_secs(seconds));
        stalls.count(begun, clock)
    }

    #[test]
    fn slow_commits_that_follow_each_other_count_once() {
        let clock = ManualClock::starting_at(Timestamp::from_micros(0));
        let mut stalls = Stalls::default();
        assert!(!stalls.count(clock.uptime(), &clock), "no time has passed");
        assert!(step(&mut stalls, &clock, 2));
        assert!(!step(&mut stalls, &clock, 2));
        assert!(step(&mut stalls, &clock, 10), "a long stall always counts");
        clock.advance(PAUSE);
        assert!(step(&mut stalls, &clock, 2));
    }
}
