//! This module sends responses. The server sends a unary response in parts. The server sends each part after the client
//! has made room for the part, so the server knows whether the client reads the response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::StreamExt;
use http_body_util::BodyExt;
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;
use tonic::codegen::http::{HeaderMap, Response};

use hyper::body::Frame;

use super::budget::Reservation;
use super::events::Frames;
use crate::connections::{OpenCall, record_part};

/// Maximum size of a part of a unary response, in bytes.
const PART_BYTES: usize = 16 * 1024;

/// The body of a response on a connection.
pub struct ResponseBody {
    content: Content,
    call: OpenCall,
}

enum Content {
    Unary(Encoded),
    Events(Frames),
    /// The response of another API, or an error.
    Other(Body),
}

/// The rest of a unary response.
struct Encoded {
    message: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether the message is larger than `PART_BYTES`.
    is_large: bool,
    /// The memory of the message, until the whole message is sent.
    reservation: Option<Reservation>,
}

/// A unary response whose message is encoded.
pub struct EncodedResponse(Response<Encoded>);

impl EncodedResponse {
    /// Encodes the message of a unary response. Fails if the message can't be encoded.
    pub async fn encode(response: Response<Body>) -> Result<Self, Status> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        let message = body.to_bytes();
        let is_large = message.len() > PART_BYTES;
        Ok(Self(Response::from_parts(head, Encoded { message, trailers, is_large, reservation: None })))
    }

    /// Returns the size of the message, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.body().message.len()
    }

    /// Returns the response for sending. `reservation` is the memory of the message.
    pub fn send(self, reservation: Reservation, call: OpenCall) -> Response<ResponseBody> {
        self.0.map(|encoded| ResponseBody {
            content: Content::Unary(Encoded { reservation: Some(reservation), ..encoded }),
            call,
        })
    }
}

/// Returns the response of a subscription for sending.
pub fn send_events(response: Response<Body>, frames: Frames, call: OpenCall) -> Response<ResponseBody> {
    response.map(|_| ResponseBody { content: Content::Events(frames), call })
}

/// Returns the response of another API, or an error, for sending.
pub fn send_other(response: Response<Body>, call: OpenCall) -> Response<ResponseBody> {
    response.map(|body| ResponseBody { content: Content::Other(body), call })
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match &mut self.content {
            Content::Unary(encoded) => encoded.next_frame().map(Ok),
            Content::Events(frames) => ready!(frames.poll_next_unpin(context)),
            Content::Other(body) => ready!(Pin::new(body).poll_frame(context)),
        };
        if matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            self.call.activity().record_sent();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Unary(encoded) => encoded.message.is_empty() && encoded.trailers.is_none(),
            Content::Events(_) => false,
            Content::Other(body) => body.is_end_stream(),
        }
    }
}

impl Encoded {
    /// Returns the next part of the message, then the trailers.
    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if self.message.is_empty() {
            self.reservation = None;
            record_part(false);
            return self.trailers.take().map(Frame::trailers);
        }
        record_part(true);
        // The last byte is a part of its own. hyper sends this part, and asks for the trailers, only after the client
        // has made room for all other bytes. Until then, the memory stays reserved, and the call can time out.
        let size = match self.message.len() {
            1 => 1,
            length => (length - 1).min(PART_BYTES),
        };
        let part = self.message.split_to(size);
        // Copy each part of a large message. Otherwise a part that waits in the buffers of HTTP/2 would keep the whole
        // message in memory after the reservation has ended.
        Some(Frame::data(if self.is_large { Bytes::copy_from_slice(&part) } else { part }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connections::Activity;

    fn new_body(message: &[u8]) -> ResponseBody {
        let message = Bytes::copy_from_slice(message);
        let encoded = Encoded { message, trailers: Some(HeaderMap::new()), is_large: true, reservation: None };
        ResponseBody { content: Content::Unary(encoded), call: Arc::<Activity>::default().open_call() }
    }

    #[tokio::test]
    async fn message_is_sent_in_parts_and_its_last_byte_alone() {
        for (length, sizes) in [
            (0, vec![]),
            (1, vec![1]),
            (2, vec![1, 1]),
            (PART_BYTES + 1, vec![PART_BYTES, 1]),
            (2 * PART_BYTES, vec![PART_BYTES, PART_BYTES - 1, 1]),
        ] {
            let mut body = new_body(&vec![7; length]);
            for size in sizes {
                assert!(!body.is_end_stream());
                assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), size);
            }
            assert!(body.frame().await.unwrap().unwrap().is_trailers());
            assert!(body.is_end_stream());
        }
    }
}
