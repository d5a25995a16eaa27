//! This module ends calls and streams at the deadline that the caller sets with the header `grpc-timeout`.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::Frame;
use runhub_api::EncodedResponse;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;
use tonic::codegen::http::HeaderMap;

use crate::error::{Error, Result};
use crate::rpc::status;

/// Maximum number of digits of a timeout, according to gRPC's specification.
const MAX_DIGITS: usize = 8;

/// The time at which the deadline of a call passes, or None if the call has no deadline.
#[derive(Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the deadline of a call that arrives now. A malformed header sets no deadline.
    pub fn of_call(headers: &HeaderMap) -> Self {
        Self(parse(headers).and_then(|time| Instant::now().checked_add(time)))
    }

    /// Returns the result of `future`. Fails with `Error::DeadlineExceeded` if the deadline passes first.
    pub async fn limit<T>(self, future: impl Future<Output = Result<T>>) -> Result<T> {
        match self.0 {
            Some(deadline) => timeout_at(deadline, future).await.unwrap_or(Err(Error::DeadlineExceeded)),
            None => future.await,
        }
    }

    /// Returns the messages of a subscription until the deadline, and then an error.
    pub fn limit_messages(
        self,
        messages: impl Stream<Item = Result<EncodedResponse, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<EncodedResponse, Status>> + Send + 'static {
        self.limit_stream(messages, || Err(Error::DeadlineExceeded.into()))
    }

    /// Returns the body of a response that ends with an error at the deadline. Each frame of the body must have whole
    /// messages.
    pub fn limit_body(self, body: Body) -> Body {
        // A response that has only headers must keep the end of its stream in the headers.
        if self.0.is_none() || body.is_end_stream() {
            return body;
        }
        let trailers = || Ok(Frame::trailers(status::to_trailers(&Error::DeadlineExceeded.into())));
        Body::new(StreamBody::new(self.limit_stream(BodyStream::new(body), trailers)))
    }

    /// Returns the items of a stream until the deadline, and then the item `last`.
    fn limit_stream<T: Send + 'static>(
        self,
        items: impl Stream<Item = T> + Send + 'static,
        last: impl Fn() -> T + Send + 'static,
    ) -> impl Stream<Item = T> + Send + 'static {
        let state = Some((Box::pin(items), last));
        stream::unfold(state, move |state| async move {
            let (mut items, last) = state?;
            match self.next(&mut items).await {
                Ok(item) => Some((item?, Some((items, last)))),
                Err(_) => Some((last(), None)),
            }
        })
    }

    /// Returns the next item of a stream. Fails with `Error::DeadlineExceeded` if the deadline has passed, even if the
    /// next item is ready, because a stream whose items are always ready must end too.
    async fn next<T>(self, items: &mut (impl Stream<Item = T> + Unpin)) -> Result<Option<T>> {
        if self.0.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::DeadlineExceeded);
        }
        self.limit(async { Ok(items.next().await) }).await
    }
}

/// Returns the time in which the server must answer the call, or None if the header is missing or malformed.
fn parse(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        parse(&headers)
    }

    #[test]
    fn every_unit_is_parsed() {
        for (text, expected) in [
            ("3H", Duration::from_secs(3 * 3600)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("2M", Duration::from_secs(120)),
            ("20S", Duration::from_secs(20)),
            ("1500m", Duration::from_millis(1_500)),
            ("7u", Duration::from_micros(7)),
            ("00000009n", Duration::from_nanos(9)),
        ] {
            assert_eq!(parse_text(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn malformed_timeouts_are_ignored() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(parse_text(text), None, "{text:?}");
        }
        assert_eq!(parse(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_ends_at_the_deadline_whether_its_items_are_ready_or_not() {
        let deadline = Deadline(Instant::now().checked_add(Duration::from_millis(2_500)));
        let slow = stream::repeat(1).then(async |item| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            item
        });
        assert_eq!(deadline.limit_stream(slow, || 0).collect::<Vec<_>>().await, [1, 1, 0]);
        assert_eq!(deadline.limit_stream(stream::repeat(1), || 0).collect::<Vec<_>>().await, [0]);
        let unlimited = Deadline(None).limit_stream(stream::iter([1, 2]), || 0);
        assert_eq!(unlimited.collect::<Vec<_>>().await, [1, 2]);
    }
}
