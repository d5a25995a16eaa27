//! Calls that are repeated until they are answered.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tonic::Code;

use crate::Error;

const FIRST_DELAY: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// So many delays fit into the time there is: a server that is back late in it is still found.
const LEAST_TRIES: u32 = 10;

/// How long to wait before each further try. Jitter, so that those who lost the same server don't come back as one.
pub(crate) fn delays() -> ExponentialBuilder {
    let delays = ExponentialBuilder::default().with_min_delay(FIRST_DELAY).with_max_delay(LONGEST_DELAY);
    delays.without_max_times().with_jitter()
}

/// A server that is too busy says when to come back: not before that.
fn not_before_told(error: &Error, delay: Option<Duration>) -> Option<Duration> {
    delay.max(error.retry_delay())
}

/// Makes a call, and again while [`Error::is_passing`] and for no longer than `limit`: through a restart of the server,
/// say. A server that is too busy is called again when it has said. What changes something takes the same `request_id`
/// each time, so that it happens once.
///
/// # Errors
/// What does not pass, at once; after the limit what the last try met, or [`Code::DeadlineExceeded`] if no try came to an
/// end.
pub async fn repeat_for<T, F>(limit: Duration, call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut last = Error::Lost { code: Code::DeadlineExceeded, message: "no answer in time".to_owned() };
    let delays = delays().with_max_delay(LONGEST_DELAY.min(limit / LEAST_TRIES));
    let repeated = call.retry(delays).sleep(tokio::time::sleep).when(Error::is_passing).adjust(not_before_told);
    let repeated = repeated.notify(|error: &Error, _| last = error.clone());
    let answered = tokio::time::timeout(limit, repeated).await;
    answered.unwrap_or(Err(last))
}
