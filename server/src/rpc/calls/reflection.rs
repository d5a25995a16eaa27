//! This module limits the streams of reflection and checks their requests, because tonic, which implements the service,
//! does neither.

mod requests;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;
use tonic::codegen::http::HeaderMap;

use self::requests::RequestCheck;
use crate::connections::record_part;
use crate::error::{Error, Result};
use crate::rpc::status;

/// Maximum size of a message of a client, in bytes. A message contains the name of a file or a symbol.
pub const REFLECTION_BYTES: usize = 4 * 1024;

/// Maximum number of open streams. Each stream keeps at most three responses, of up to 50 KiB each, that its client
/// does not read.
const MAX_STREAMS: usize = 64;
/// Maximum number of open streams of one connection.
const STREAMS_PER_CONNECTION: usize = 8;
/// Maximum time between two messages of a client. After this time, the stream ends as if the client had closed it. The
/// time is shorter than the time after which the executor resets an unread stream, so an idle stream ends with OK.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The open streams of all connections, and of one connection.
#[derive(Clone)]
pub struct ReflectionStreams {
    all: Arc<Semaphore>,
    of_connection: Arc<Semaphore>,
}

/// An open stream.
pub struct ReflectionStream {
    /// The permits of the stream. The response keeps them until the stream ends.
    permits: [OwnedSemaphorePermit; 2],
    refusal: Refusal,
}

/// The error of an invalid request, or None if the request is valid so far.
#[derive(Clone, Default)]
struct Refusal(Arc<Mutex<Option<Error>>>);

impl Default for ReflectionStreams {
    fn default() -> Self {
        let of_connection = Arc::new(Semaphore::new(STREAMS_PER_CONNECTION));
        Self { all: Arc::new(Semaphore::new(MAX_STREAMS)), of_connection }
    }
}

impl ReflectionStreams {
    /// Returns the streams for a new connection.
    pub fn for_connection(&self) -> Self {
        Self { all: Arc::clone(&self.all), ..Self::default() }
    }

    /// Opens a new stream. Fails with `Error::Overloaded` if too many streams are open.
    pub fn open_stream(&self) -> Result<ReflectionStream> {
        let acquire = |permits: &Arc<Semaphore>| Arc::clone(permits).try_acquire_owned().map_err(|_| Error::Overloaded);
        let permits = [acquire(&self.of_connection)?, acquire(&self.all)?];
        Ok(ReflectionStream { permits, refusal: Refusal::default() })
    }
}

impl ReflectionStream {
    /// Returns the request of the stream. The request ends if the client sends nothing for `IDLE_TIMEOUT`, and before
    /// an invalid message.
    pub fn check_requests<B>(&self, request: B) -> Body
    where
        B: HttpBody<Data = Bytes, Error: Send> + Send + Unpin + 'static,
    {
        let state = (request, RequestCheck::default(), self.refusal.clone());
        let frames = stream::unfold(state, |(mut request, mut check, refusal)| async {
            let frame = timeout(IDLE_TIMEOUT, request.frame()).await.ok()?;
            let checked = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), |bytes| check.add(bytes)),
                Some(Err(_)) => return None,
                None => check.end(),
            };
            if let Err(error) = checked {
                refusal.set(error);
                return None;
            }
            Some((Ok::<_, Infallible>(frame?.ok()?), (request, check, refusal)))
        });
        Body::new(StreamBody::new(frames))
    }

    /// Returns the response of the stream. The executor of the connection resets the stream if the client does not read
    /// the next message for 30 s. If the request is invalid, the stream ends with the error.
    pub fn end_when_unread(self, response: Body) -> Body {
        if response.is_end_stream() {
            return response;
        }
        record_part(true);
        let Self { permits, refusal } = self;
        let frames = BodyStream::new(response).map_ok(move |mut frame| {
            let _permits = &permits;
            record_part(true);
            if let Some(trailers) = frame.trailers_mut() {
                refusal.replace(trailers);
            }
            frame
        });
        Body::new(StreamBody::new(frames))
    }
}

impl Refusal {
    fn set(&self, error: Error) {
        // Ignore lock poisoning, because no code panics while it holds the lock.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Replaces the trailers of the stream with the error of the request, if there is one. Otherwise shortens the text
    /// of the trailers, which can quote a name of the request.
    fn replace(&self, trailers: &mut HeaderMap) {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => *trailers = status::to_trailers(&error.into()),
            None => status::shorten_message(trailers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_limited_for_each_connection_and_for_all() {
        let streams = ReflectionStreams::default();
        let mut open = Vec::new();
        for _ in 0..MAX_STREAMS / STREAMS_PER_CONNECTION {
            let connection = streams.for_connection();
            open.extend((0..STREAMS_PER_CONNECTION).map(|_| connection.open_stream().unwrap()));
            assert_eq!(connection.open_stream().err(), Some(Error::Overloaded));
        }
        let other = streams.for_connection();
        assert_eq!(other.open_stream().err(), Some(Error::Overloaded));
        open.pop();
        assert!(other.open_stream().is_ok());
    }
}
