//! Logs when an overload begins and when it ends, with one line each, however many calls are refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An overload has ended if no call was refused for this long. Shorter pauses belong to one overload: refused calls are told
/// to retry after up to 5 s.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Notes which calls are refused.
#[derive(Default)]
pub struct OverloadLog {
    /// An overload has begun and has not ended. It spares admitted calls the lock.
    is_overloaded: AtomicBool,
    current: Mutex<Option<Overload>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Overload {
    begun: Instant,
    last_refusal: Instant,
    refused_calls: u64,
}

impl OverloadLog {
    /// Notes that a call was refused.
    pub fn refused(&self, now: Instant) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let overload = current.get_or_insert(Overload { begun: now, last_refusal: now, refused_calls: 0 });
        overload.last_refusal = now;
        overload.refused_calls += 1;
        if overload.refused_calls == 1 {
            self.is_overloaded.store(true, Ordering::Relaxed);
            tracing::warn!("overload began: calls are refused");
        }
    }

    /// Notes that a call was admitted, and logs the end of an overload.
    pub fn admitted(&self) {
        if self.is_overloaded.load(Ordering::Relaxed)
            && let Some(ended) = self.take_ended(Instant::now())
        {
            let duration_ms = ended.last_refusal.duration_since(ended.begun).as_millis();
            tracing::info!(refused_calls = ended.refused_calls, duration_ms, "overload ended");
        }
    }

    /// Returns the overload if it has ended by now.
    fn take_ended(&self, now: Instant) -> Option<Overload> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = current.take_if(|overload| now.duration_since(overload.last_refusal) >= QUIET_TIME)?;
        self.is_overloaded.store(false, Ordering::Relaxed);
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_ends_when_no_call_was_refused_for_the_quiet_time() {
        let log = OverloadLog::default();
        let begun = Instant::now();
        assert_eq!(log.take_ended(begun), None);
        log.refused(begun);
        let last_refusal = begun + Duration::from_secs(3);
        log.refused(last_refusal);
        assert_eq!(log.take_ended(last_refusal + QUIET_TIME - Duration::from_millis(1)), None);
        let ended = log.take_ended(last_refusal + QUIET_TIME);
        assert_eq!(ended, Some(Overload { begun, last_refusal, refused_calls: 2 }));
        assert!(!log.is_overloaded.load(Ordering::Relaxed));
    }
}
