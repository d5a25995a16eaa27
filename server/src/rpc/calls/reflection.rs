//! This module limits the streams of reflection. The service is a part of tonic and knows no limits.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use prost::bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;

use crate::connections::record_part;

/// Maximum number of open streams. Each stream can keep some responses of up to 50 KiB that its client does not read.
pub const MAX_STREAMS: usize = 64;
/// Maximum time between two messages of a client. After this time, the stream ends as if the client had closed it. The
/// time is shorter than the time after which the executor resets an unread stream, so an idle stream ends with OK.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

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
/// next message for 30 s. `permit` is kept until the stream ends.
pub fn end_when_unread(response: Body, permit: OwnedSemaphorePermit) -> Body {
    record_part(true);
    let frames = BodyStream::new(response).inspect(move |_| {
        let _permit = &permit;
        record_part(true);
    });
    Body::new(StreamBody::new(frames))
}
