//! This module logs the start and the end of an overload. An overload causes only these two log lines, regardless of
//! the number of refused calls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Time without a refused call after which an overload has ended. Clients retry a refused call after up to 5 s, so a
/// shorter pause does not end the overload.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Records refused calls, and logs the start and the end of each overload. The value is the current overload, or None
/// while the server is not overloaded.
#[derive(Debug, Clone, Default)]
pub struct OverloadLog(Arc<Mutex<Option<Overload>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Overload {
    start: Instant,
    last_refusal: Instant,
    refused_calls: u64,
}

impl OverloadLog {
    /// Records a refused call. If the call is the first refused call of an overload, the function logs the start of the
    /// overload and starts a Tokio task that logs the end. Call this method in a Tokio runtime.
    pub fn record_refusal(&self) {
        if self.count_refusal(Instant::now()) {
            tracing::warn!("overload began: calls are refused");
            tokio::spawn(self.clone().log_end());
        }
    }

    /// Counts a refused call, and returns whether an overload starts with the call.
    fn count_refusal(&self, now: Instant) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let overload = current.get_or_insert(Overload { start: now, last_refusal: now, refused_calls: 0 });
        overload.last_refusal = now;
        overload.refused_calls += 1;
        overload.refused_calls == 1
    }

    /// Waits for the end of the current overload and logs the end.
    async fn log_end(self) {
        while let Some(end) = self.earliest_end() {
            sleep_until(end).await;
            if let Some(ended) = self.take_ended(Instant::now()) {
                let duration_ms = ended.last_refusal.duration_since(ended.start).as_millis();
                tracing::info!(refused_calls = ended.refused_calls, duration_ms, "overload ended");
                return;
            }
        }
    }

    /// Returns the time at which the current overload ends if no further call is refused, or None without an overload.
    fn earliest_end(&self) -> Option<Instant> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.map(|overload| overload.last_refusal + QUIET_TIME)
    }

    /// Removes and returns an overload that has ended by the time `now`. Returns None if no overload has ended.
    fn take_ended(&self, now: Instant) -> Option<Overload> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.take_if(|overload| now.duration_since(overload.last_refusal) >= QUIET_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_ends_when_no_call_was_refused_for_the_quiet_time() {
        let log = OverloadLog::default();
        let start = Instant::now();
        assert_eq!(log.take_ended(start), None);
        assert!(log.count_refusal(start));
        let last_refusal = start + Duration::from_secs(3);
        assert!(!log.count_refusal(last_refusal));
        assert_eq!(log.earliest_end(), Some(last_refusal + QUIET_TIME));
        assert_eq!(log.take_ended(last_refusal + QUIET_TIME - Duration::from_millis(1)), None);
        let ended = log.take_ended(last_refusal + QUIET_TIME);
        assert_eq!(ended, Some(Overload { start, last_refusal, refused_calls: 2 }));
        assert!(log.count_refusal(last_refusal + QUIET_TIME), "the next refusal starts another overload");
    }
}
