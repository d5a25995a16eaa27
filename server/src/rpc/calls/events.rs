//! This module sends the events of a subscription. tonic would copy each whole event to a buffer of the stream, and a
//! stream that nobody reads would keep the buffer. This module copies only the part of a large event that the server
//! sends next, and limits the memory for large events.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt};
use hyper::body::Frame;
use prost::bytes::{BufMut, Bytes, BytesMut};
use runhub_api::EncodedResponse;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Response};

use super::PREFIX_BYTES;
use super::budget::{ConnectionBudget, EventReservation, SMALL_BYTES};
use crate::error::{Error, Result};
use crate::rpc::snapshot::spool::{PartsWriter, Spool, SpooledParts};
use crate::rpc::status;

/// Size at which a frame with several small messages ends, in bytes.
const FRAME_BYTES: usize = 16 * 1024;
/// Maximum size of a message that is copied to a frame with other messages, in bytes.
const COPIED_BYTES: usize = 4 * 1024;

/// The messages of a subscription.
type Messages = BoxStream<'static, Result<EncodedResponse, Status>>;
/// The frames of a subscription.
pub type Frames = BoxStream<'static, Result<Frame<Bytes>, Status>>;

/// The messages of a subscription, in the extensions of the response of SubscribeEvents.
#[derive(Clone)]
pub struct Subscribed(Arc<Mutex<Option<Messages>>>);

impl Subscribed {
    /// Returns the messages for the extensions of a response.
    pub fn new(messages: impl Stream<Item = Result<EncodedResponse, Status>> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(messages.boxed()))))
    }

    /// Removes the messages from the extensions of a response. Returns None if the call has failed.
    pub fn take<B>(response: &mut Response<B>) -> Option<Messages> {
        let subscribed = response.extensions_mut().remove::<Self>()?;
        // Ignore lock poisoning, because no code panics while it holds the lock.
        subscribed.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns the frames with the messages of a subscription, and the trailers.
pub fn to_frames(
    messages: impl Stream<Item = Result<EncodedResponse, Status>> + Send + 'static,
    budget: ConnectionBudget,
    spool: Arc<Spool>,
) -> Frames {
    let sender = Sender {
        messages: messages.boxed(),
        budget,
        spool,
        ready: None,
        large: Bytes::new(),
        reservation: None,
        spooled: SpooledParts::default(),
        trailers: None,
        has_ended: false,
    };
    stream::unfold(sender, |mut sender| async { Some((sender.next_frame().await?, sender)) }).boxed()
}

/// The state of a subscription that is being sent.
struct Sender {
    messages: Messages,
    budget: ConnectionBudget,
    spool: Arc<Spool>,
    /// The next frame, with small messages or the start of a large message.
    ready: Option<Bytes>,
    /// The rest of a large message, which follows the frame in `ready`.
    large: Bytes,
    /// The memory of the large message.
    reservation: Option<Arc<EventReservation>>,
    /// The parts of a large message for which there was no memory.
    spooled: SpooledParts,
    trailers: Option<HeaderMap>,
    /// Whether the last message has been received.
    has_ended: bool,
}

impl Sender {
    /// Returns the next frame, or None after the trailers.
    async fn next_frame(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        loop {
            if let Some(bytes) = self.ready.take() {
                return Some(Ok(Frame::data(bytes)));
            }
            if !self.large.is_empty() {
                let part = self.large.split_to(self.large.len().min(FRAME_BYTES));
                // Copy the part. Otherwise a part that waits in the buffers of HTTP/2 would keep the whole message in
                // memory after the reservation has ended.
                return Some(Ok(Frame::data(Bytes::copy_from_slice(&part))));
            }
            self.reservation = None;
            match self.spooled.next().await {
                Ok(Some(bytes)) => return Some(Ok(Frame::data(bytes))),
                Ok(None) => {}
                Err(error) => self.end(Err(error.into())),
            }
            if let Some(trailers) = self.trailers.take() {
                return Some(Ok(Frame::trailers(trailers)));
            }
            if self.has_ended {
                return None;
            }
            self.fill().await;
        }
    }

    /// Waits for the next message, and makes it ready together with the small messages that follow without a wait.
    async fn fill(&mut self) {
        let mut frame = BytesMut::new();
        let mut next = self.messages.next().await;
        while let Some(Ok(message)) = &next {
            if message.len() > COPIED_BYTES {
                if let Err(error) = self.add_large(&mut frame, message.as_bytes()).await {
                    next = Some(Err(error.into()));
                }
                break;
            }
            put_prefix(&mut frame, message.len());
            frame.put_slice(message.as_bytes());
            if frame.len() >= FRAME_BYTES {
                break;
            }
            match self.messages.next().now_or_never() {
                Some(message) => next = message,
                None => break,
            }
        }
        self.ready = Some(frame.freeze()).filter(|frame| !frame.is_empty());
        match next {
            Some(Ok(_)) => {}
            Some(Err(status)) => self.end(Err(status)),
            None => self.end(Ok(())),
        }
    }

    /// Adds the start of a large message to a frame, and keeps the rest of the message. If there is no memory for the
    /// message, writes the rest to a temporary file, where the rest stays until the client reads it.
    async fn add_large(&mut self, frame: &mut BytesMut, message: &Bytes) -> Result<()> {
        let start = message.slice(..message.len().min(FRAME_BYTES));
        let rest = message.slice(start.len()..);
        if message.len() > SMALL_BYTES {
            self.reservation = self.budget.reserve_event(message);
        }
        if message.len() <= SMALL_BYTES || self.reservation.is_some() {
            self.large = rest;
        } else {
            self.spooled = spool_message(Arc::clone(&self.spool), rest).await?;
        }
        put_prefix(frame, message.len());
        frame.put_slice(&start);
        Ok(())
    }

    /// Ends the subscription with the status of `result`.
    fn end(&mut self, result: Result<(), Status>) {
        self.has_ended = true;
        self.spooled = SpooledParts::default();
        let status = result.err().unwrap_or_else(|| Status::ok(""));
        self.trailers = Some(status::to_trailers(&status));
    }
}

/// Writes a message to a temporary file, and returns its parts.
async fn spool_message(spool: Arc<Spool>, message: Bytes) -> Result<SpooledParts> {
    let write = move || {
        let mut parts = PartsWriter::new(spool);
        message.chunks(FRAME_BYTES).try_for_each(|part| parts.write(part))?;
        parts.finish()
    };
    tokio::task::spawn_blocking(write).await.map_err(Error::internal)?
}

/// Appends the prefix of a message of `length` bytes to a frame.
fn put_prefix(frame: &mut BytesMut, length: usize) {
    frame.reserve(PREFIX_BYTES + length.min(FRAME_BYTES));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}
