//! This module retries calls that fail with a temporary error.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tonic::Code;

use crate::Error;

const FIRST_DELAY: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Limits a delay to a tenth of the time limit for a call and all its retries, so that the client still reaches a
/// server that restarts shortly before the deadline.
const MIN_RETRIES: u32 = 10;

/// Returns the delays before the retries of a call. The random jitter spreads the calls of clients that lost the
/// connection to a server at the same time.
pub(crate) fn build_delays() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .without_max_times()
        .with_jitter()
}

/// Returns the server's retry delay if the retry delay is longer than `delay`. Otherwise the function returns `delay`.
fn raise_to_retry_delay(error: &Error, delay: Option<Duration>) -> Option<Duration> {
    delay.max(error.retry_delay())
}

/// Makes a call and retries the call while the error [is temporary](Error::is_temporary), until `limit` has passed.
/// Returns the result of the call or retry that succeeds.
///
/// If the server sends a retry delay, the next retry waits at least for this delay. A call that changes state must have
/// the same `request_id` in each retry, so that the server makes the change only once.
///
/// # Errors Fails with the first error that is not temporary. When `limit` has passed, the function fails with the last
/// error of the call, or with [`Code::DeadlineExceeded`] if the server has not answered.
pub async fn repeat_for<T, F>(limit: Duration, call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut last_error = Error::Lost {
        code: Code::DeadlineExceeded,
        message: "the server did not answer before the deadline of the call".to_owned(),
    };
    let delays = build_delays().with_max_delay(LONGEST_DELAY.min(limit / MIN_RETRIES));
    let repeated = call
        .retry(delays)
        .sleep(tokio::time::sleep)
        .when(Error::is_temporary)
        .adjust(raise_to_retry_delay)
        .notify(|error: &Error, _| last_error = error.clone());
    let answered = tokio::time::timeout(limit, repeated).await;
    answered.unwrap_or(Err(last_error))
}
