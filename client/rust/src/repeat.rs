//! Repeating calls that fail for a temporary reason.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tonic::Code;

use crate::Error;

const FIRST_DELAY: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// A delay is at most a tenth of the available time, so that a server that returns late is still found in time.
const LEAST_TRIES: u32 = 10;

/// Returns the delays before each further try. Jitter spreads the calls of clients that lost their server at the same time.
pub(crate) fn delays() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .without_max_times()
        .with_jitter()
}

/// Returns the delay, or the server's retry delay if that is longer.
fn at_least_retry_delay(error: &Error, delay: Option<Duration>) -> Option<Duration> {
    delay.max(error.retry_delay())
}

/// Makes a call, and repeats it while its error [is temporary](Error::is_passing), until `limit` has passed.
///
/// If the server sends a retry delay, the next try waits at least that long. A call that changes state must have the same
/// `request_id` in each try, so that the server carries it out once.
///
/// # Errors
/// Returns the first error that is not temporary. After `limit`, returns the error of the last try that ended, or
/// [`Code::DeadlineExceeded`] if no try ended.
pub async fn repeat_for<T, F>(limit: Duration, call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut last_error =
        Error::Lost { code: Code::DeadlineExceeded, message: "no answer before the deadline".to_owned() };
    let delays = delays().with_max_delay(LONGEST_DELAY.min(limit / LEAST_TRIES));
    let repeated = call
        .retry(delays)
        .sleep(tokio::time::sleep)
        .when(Error::is_passing)
        .adjust(at_least_retry_delay)
        .notify(|error: &Error, _| last_error = error.clone());
    let answered = tokio::time::timeout(limit, repeated).await;
    answered.unwrap_or(Err(last_error))
}
