//! This module reads the whole request of a call before the call is served. A call that waits for the rest of its
//! request takes no permit, and the memory for the request is reserved as soon as the length of the message has
//! arrived.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Frame;
use prost::bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::codegen::Body;

use super::PREFIX_BYTES;
use super::budget::Reservation;
use crate::domain::limits;
use crate::error::{Error, Result};

/// Number of bytes of a message for which the server waits 1 s longer, so that a large message can arrive over a slow
/// connection. A client that sends single bytes times out.
const BYTES_PER_SECOND: usize = 64 * 1024;
/// Maximum time that the server waits for the rest of a refused request.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The complete request of a call, as the body for the service. The memory is reserved until the service has decoded
/// the request and drops the body. A call that waits, or a stream, must not keep the memory of its request, because
/// callers could then use up the budget with calls that cost them nothing.
pub struct ReadRequest {
    /// The gRPC message with its prefix, or no bytes if the client sent no message.
    bytes: Bytes,
    _reservation: Option<Reservation>,
}

impl ReadRequest {
    fn without_memory(bytes: Bytes) -> Self {
        Self { bytes, _reservation: None }
    }
}

impl Body for ReadRequest {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready(if bytes.is_empty() { None } else { Some(Ok(Frame::data(bytes))) })
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Reads the request of a call. `reserve` reserves the memory for a number of bytes. Fails with `Error::Overloaded` if
/// the memory can't be reserved, or with `Error::RequestIncomplete` if the client sends the request too slowly.
pub async fn read<B>(body: B, reserve: impl FnOnce(usize) -> Option<Reservation>) -> Result<ReadRequest>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut body = RequestBody::new(body);
    let mut message = Bytes::new();
    let length = loop {
        if let Some(length) = parse_length(&message) {
            break length;
        }
        match body.next_bytes().await? {
            Some(bytes) => append(&mut message, bytes),
            None => return Ok(ReadRequest::without_memory(message)),
        }
    };
    let size = PREFIX_BYTES + length;
    if length > limits::REQUEST_BYTES {
        // tonic refuses the message by its prefix and does not need the rest.
        return Ok(ReadRequest::without_memory(message));
    }
    let Some(reservation) = reserve(size) else {
        drain(&mut body.body).await;
        return Err(Error::Overloaded);
    };
    let bytes = body.read_message(message, size).await?;
    Ok(ReadRequest { bytes, _reservation: Some(reservation) })
}

/// Returns the length in the prefix of a message, or None if the prefix is incomplete.
fn parse_length(message: &[u8]) -> Option<usize> {
    let [_, length @ ..] = *message.first_chunk::<PREFIX_BYTES>()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

/// Appends bytes to the start of a message. The bytes are not copied unless the client splits the prefix.
fn append(message: &mut Bytes, bytes: Bytes) {
    if message.is_empty() {
        *message = bytes;
    } else {
        let mut both = BytesMut::from(message.as_ref());
        both.extend_from_slice(&bytes);
        *message = both.freeze();
    }
}

/// A request that the server reads.
struct RequestBody<B> {
    body: B,
    start: Instant,
    /// The time at which the newest bytes arrived.
    newest: Instant,
    /// Number of received bytes of the message.
    received: usize,
}

impl<B: Body<Data = Bytes> + Unpin> RequestBody<B> {
    fn new(body: B) -> Self {
        let start = Instant::now();
        Self { body, start, newest: start, received: 0 }
    }

    /// Returns the message of `size` bytes, of which `start` has arrived, after the client has ended the request.
    /// Ignores bytes after the message.
    async fn read_message(&mut self, start: Bytes, size: usize) -> Result<Bytes> {
        if start.len() >= size {
            while self.next_bytes().await?.is_some() {}
            return Ok(start.slice(..size));
        }
        let mut message = BytesMut::with_capacity(size);
        message.extend_from_slice(&start);
        drop(start);
        while let Some(bytes) = self.next_bytes().await? {
            let missing = size - message.len();
            message.extend_from_slice(bytes.get(..missing).unwrap_or(&bytes));
            self.received = message.len();
        }
        Ok(message.freeze())
    }

    /// Returns the next bytes, or None at the end of the request. Fails if the client sends too slowly or has reset the
    /// call.
    async fn next_bytes(&mut self) -> Result<Option<Bytes>> {
        let extra = Duration::from_secs((self.received / BYTES_PER_SECOND) as u64);
        let deadline = (self.start + extra).min(self.newest) + limits::REQUEST_TIME;
        loop {
            let frame = timeout_at(deadline, self.body.frame()).await;
            match frame.map_err(|_| Error::RequestIncomplete)? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Error::RequestIncomplete),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => {
                        self.newest = Instant::now();
                        return Ok(Some(bytes));
                    }
                    // An empty frame or the trailers.
                    _ => {}
                },
            }
        }
    }
}

/// Reads and drops the rest of a request, up to `limits::REQUEST_BYTES`, for at most `DRAIN_TIMEOUT`. If the server
/// answered before the end of the request, the stream would be reset. HTTP/2 closes a connection with too many reset
/// streams, which would also disconnect the watchers on the connection.
async fn drain(body: &mut (impl Body<Data = Bytes> + Unpin)) {
    let rest = async {
        let mut bytes = 0;
        while bytes <= limits::REQUEST_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Ignore the timeout. A slow client can't keep the refused call open.
    let _ = timeout(DRAIN_TIMEOUT, rest).await;
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;

    use super::super::budget::Budget;
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(length).unwrap().to_be_bytes());
        message.extend(vec![7; length]);
        message
    }

    /// Returns a request whose pieces of `size` bytes arrive at the interval `pause`. The request never ends if
    /// `is_complete` is false.
    fn request(message: Vec<u8>, size: usize, pause: Duration, is_complete: bool) -> impl Body<Data = Bytes> + Unpin {
        let pieces: Vec<_> = message.chunks(size).map(Bytes::copy_from_slice).collect();
        let pieces = stream::iter(pieces).then(move |piece| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(Frame::data(piece))
        });
        let end = if is_complete { stream::empty().left_stream() } else { stream::pending().right_stream() };
        StreamBody::new(pieces.chain(end).boxed())
    }

    async fn read_request(body: impl Body<Data = Bytes> + Unpin) -> Result<ReadRequest> {
        let budget = std::sync::Arc::new(Budget::new(160 * 1024 * 1024));
        read(body, |bytes| budget.for_connection().reserve(bytes, false)).await
    }

    #[tokio::test(start_paused = true)]
    async fn message_is_read_however_the_client_splits_it() {
        for length in [0, 1, 100, 70_000] {
            for size in [1, 3, 5, 6, 16_384, 100_000] {
                let body = request(message(length), size, Duration::ZERO, true);
                let read = read_request(body).await.unwrap_or_else(|error| panic!("{length} by {size}: {error}"));
                assert_eq!(read.bytes, message(length), "{length} by {size}");
                assert!(read._reservation.is_some());
            }
        }
    }

    #[tokio::test]
    async fn empty_request_is_left_to_tonic() {
        let read = read_request(request(Vec::new(), 1, Duration::ZERO, true)).await.unwrap();
        assert!(read.bytes.is_empty() && read._reservation.is_none());
    }

    #[tokio::test]
    async fn bytes_after_the_message_are_ignored() {
        let mut bytes = message(100);
        bytes.extend([9; 50]);
        for size in [20, 1_000] {
            let read = read_request(request(bytes.clone(), size, Duration::ZERO, true)).await.unwrap();
            assert_eq!(read.bytes, message(100));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_request_fails_after_the_timeout() {
        for received in [0, 4, 50] {
            let start = Instant::now();
            let body = request(message(100)[..received].to_vec(), 100, Duration::ZERO, false);
            assert_eq!(read_request(body).await.err(), Some(Error::RequestIncomplete));
            assert_eq!(start.elapsed(), limits::REQUEST_TIME, "{received} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_connection_has_more_time_for_a_large_message() {
        let pause = Duration::from_millis(900);
        let body = request(message(2 * 1024 * 1024), BYTES_PER_SECOND, pause, true);
        assert!(read_request(body).await.is_ok());
        let body = request(message(100_000), 1, pause, true);
        assert_eq!(read_request(body).await.err(), Some(Error::RequestIncomplete));
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_stops_after_many_bytes_fails_after_the_timeout() {
        let start = Instant::now();
        let body = request(message(2 * 1024 * 1024)[..1024 * 1024].to_vec(), 16_384, Duration::ZERO, false);
        assert_eq!(read_request(body).await.err(), Some(Error::RequestIncomplete));
        assert!(start.elapsed() < limits::REQUEST_TIME + Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn request_beyond_the_budget_is_refused_after_its_end() {
        let body = request(message(100_000), 16_384, Duration::ZERO, true);
        assert_eq!(read(body, |_| None).await.err(), Some(Error::Overloaded));
        let start = Instant::now();
        let body = request(message(100_000), 16_384, Duration::ZERO, false);
        assert_eq!(read(body, |_| None).await.err(), Some(Error::Overloaded));
        assert_eq!(start.elapsed(), DRAIN_TIMEOUT);
    }
}
