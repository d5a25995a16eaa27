//! This module finds the steps of the writer in which heartbeats had to wait so long that a lease could end.

use std::time::Duration;

use crate::clock::Clock;

/// Time after a stall in which only a long stall counts. On a disk where each commit takes longer than a second, the
/// leases would otherwise be extended again and again, and the lease of a dead agent would never expire. Heartbeats
/// that wait for a slow commit run before an expiry that is queued later.
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
mod tests;
