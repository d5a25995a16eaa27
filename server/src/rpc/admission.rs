//! This module refuses calls of an overloaded server before the calls reach a service.
//!
//! The server serves at most `limits::CALLS_IN_SERVICE` LIMITED calls at the same time. The server refuses further
//! LIMITED calls before parsing the requests, because calls that wait in Tokio tasks and sockets would form an
//! unbounded queue.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use runhub_api::Rpc;
use runhub_api::v1;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;

use super::status;
use crate::domain::limits;
use crate::error::{Error, Result};

/// Time between the retries of two refused calls. Without this interval, all callers would retry their refused calls at
/// the same time.
const RETRY_SPACING: Duration = Duration::from_micros(500);
/// Minimum time between the refusal and the retry of a call.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Maximum time between the refusal and the retry of a call.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The calls in service.
pub struct Admission {
    permits: Semaphore,
    retries: RetrySchedule,
}

impl Default for Admission {
    fn default() -> Self {
        Self { permits: Semaphore::new(limits::CALLS_IN_SERVICE), retries: RetrySchedule::default() }
    }
}

impl Admission {
    /// Admits a call until the permit is dropped. Returns None for a call that is not LIMITED and needs no permit.
    /// Fails with `Error::Overloaded` if the server is serving the maximum number of LIMITED calls.
    pub fn admit(&self, rpc: &Rpc) -> Result<Option<SemaphorePermit<'_>>> {
        if rpc.admission != v1::Admission::Limited {
            return Ok(None);
        }
        self.permits.try_acquire().map(Some).map_err(|_| Error::Overloaded)
    }

    /// Returns the status of a refused call, with the delay after which the caller should retry the call.
    pub fn new_refusal(&self) -> Status {
        status::new_overloaded_status(self.retries.next_delay(Instant::now()))
    }
}

/// A schedule that spreads the retries of refused calls over time. The value is the time of the latest scheduled retry,
/// or None before the first refusal.
#[derive(Default)]
struct RetrySchedule(Mutex<Option<Instant>>);

impl RetrySchedule {
    /// Returns the delay after which the next refused call should retry.
    fn next_delay(&self, now: Instant) -> Duration {
        // While a thread holds the schedule's lock, no code that can panic runs, so the value is valid even if the lock
        // is poisoned.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let soonest = now + MIN_RETRY_DELAY;
        let next = latest.map_or(soonest, |latest| soonest.max(latest + RETRY_SPACING));
        // A call must not wait longer than `MAX_RETRY_DELAY`. If the next retry would be later, the schedule restarts
        // at the minimum delay.
        let next = if next > now + MAX_RETRY_DELAY { soonest } else { next };
        *latest = Some(next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> &'static Rpc {
        runhub_api::RPCS.iter().find(|rpc| rpc.name == name).unwrap()
    }

    #[test]
    fn only_limited_calls_beyond_the_limit_are_refused() {
        let admission = Admission::default();
        let mut admitted: Vec<_> =
            (0..limits::CALLS_IN_SERVICE).map(|_| admission.admit(find("AppendEvents")).unwrap()).collect();
        assert_eq!(admission.admit(find("ListRuns")).err(), Some(Error::Overloaded));
        for name in ["Heartbeat", "SubscribeEvents", "GetServerInfo"] {
            assert!(admission.admit(find(name)).unwrap().is_none(), "{name}");
        }
        admitted.pop();
        assert!(admission.admit(find("ListRuns")).unwrap().is_some());
    }

    #[test]
    fn refused_calls_retry_one_after_the_other() {
        let retries = RetrySchedule::default();
        let now = Instant::now();
        let delays: Vec<_> = (0..30_000).map(|_| retries.next_delay(now)).collect();
        assert_eq!(delays[0], MIN_RETRY_DELAY);
        assert_eq!(delays[4] - delays[0], 4 * RETRY_SPACING);
        assert!(delays.iter().all(|delay| (MIN_RETRY_DELAY..=MAX_RETRY_DELAY).contains(delay)));
        assert_eq!(retries.next_delay(now + MAX_RETRY_DELAY + MAX_RETRY_DELAY), MIN_RETRY_DELAY);
    }
}
