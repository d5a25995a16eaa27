//! This module limits the streams of reflection, because tonic, which implements the service, does not limit them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;

use crate::connections::record_part;
use crate::error::{Error, Result};

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

/// The permits of an open stream.
pub type StreamPermits = [OwnedSemaphorePermit; 2];

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

    /// Returns the permits for a new stream. Fails with `Error::Overloaded` if too many streams are open.
    pub fn open_stream(&self) -> Result<StreamPermits> {
        let acquire = |permits: &Arc<Semaphore>| Arc::clone(permits).try_acquire_owned().map_err(|_| Error::Overloaded);
        Ok([acquire(&self.of_connection)?, acquire(&self.all)?])
    }
}

/// Returns the request of a stream, which ends if the client sends nothing for `IDLE_TIMEOUT`.
pub fn end_when_idle<B>(request: B) -> Body
where
    B: HttpBody<Data = Bytes, Error: Send> + Send + Unpin + 'static,
{
    let frames = stream::unfold(request, |mut request| async {
        let frame = timeout(IDLE_TIMEOUT, request.frame()).await.ok()??.ok()?;
        Some((Ok::<_, Infallible>(frame), request))
    });
    Body::new(StreamBody::new(frames))
}

/// Returns the response of a stream. The executor of the connection resets the stream if the client does not read the
/// next message for 30 s. `permits` are kept until the stream ends.
pub fn end_when_unread(response: Body, permits: StreamPermits) -> Body {
    record_part(true);
    let frames = BodyStream::new(response).inspect(move |_| {
        let _permits = &permits;
        record_part(true);
    });
    Body::new(StreamBody::new(frames))
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
