//! This module sends the events of a subscription. tonic would copy each event to a buffer of the stream, and a stream
//! that nobody reads would keep the buffer. This module sends large events without a copy, and bounds their memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt};
use hyper::body::Frame;
use prost::bytes::{BufMut, Bytes, BytesMut};
use runhub_api::EncodedResponse;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Response};

use super::PREFIX_BYTES;
use super::budget::{ConnectionBudget, Reservation, SMALL_BYTES};
use crate::error::{Error, Result};
use crate::rpc::snapshot::spool::{PartsWriter, Spool, SpooledParts};

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
pub fn to_frames(messages: Messages, budget: ConnectionBudget, spool: Arc<Spool>) -> Frames {
    let sender = Sender {
        messages,
        budget,
        spool,
        ready: VecDeque::new(),
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
    /// The next frames.
    ready: VecDeque<Bytes>,
    /// The memory of the large message in `ready`.
    reservation: Option<Reservation>,
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
            if let Some(bytes) = self.ready.pop_front() {
                return Some(Ok(Frame::data(bytes)));
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
        loop {
            match next {
                Some(Ok(message)) if message.len() <= COPIED_BYTES => {
                    put_prefix(&mut frame, message.len());
                    frame.put_slice(message.as_bytes());
                }
                Some(Ok(message)) => match self.keep_large(message.as_bytes()).await {
                    Ok(()) => {
                        put_prefix(&mut frame, message.len());
                        self.ready.push_back(frame.freeze());
                        return self.add_large(message.as_bytes());
                    }
                    Err(error) => {
                        self.end(Err(error.into()));
                        break;
                    }
                },
                Some(Err(status)) => {
                    self.end(Err(status));
                    break;
                }
                None => {
                    self.end(Ok(()));
                    break;
                }
            }
            let following = if frame.len() < FRAME_BYTES { self.messages.next().now_or_never() } else { None };
            match following {
                Some(message) => next = message,
                None => break,
            }
        }
        if !frame.is_empty() {
            self.ready.push_back(frame.freeze());
        }
    }

    /// Reserves the memory for a large message. If there is no memory, writes the message to a temporary file, where
    /// the message stays until the client reads it.
    async fn keep_large(&mut self, message: &Bytes) -> Result<()> {
        if message.len() <= SMALL_BYTES {
            return Ok(());
        }
        self.reservation = self.budget.reserve_event(message.len());
        if self.reservation.is_none() {
            self.spooled = spool_message(Arc::clone(&self.spool), message.clone()).await?;
        }
        Ok(())
    }

    /// Makes the parts of a large message ready, unless the message is in a temporary file.
    fn add_large(&mut self, message: &Bytes) {
        if self.spooled.is_empty() {
            let starts = (0..message.len()).step_by(FRAME_BYTES);
            self.ready.extend(starts.map(|start| message.slice(start..message.len().min(start + FRAME_BYTES))));
        }
    }

    /// Ends the subscription with the status of `result`.
    fn end(&mut self, result: Result<(), Status>) {
        self.has_ended = true;
        self.spooled = SpooledParts::default();
        let status = result.err().unwrap_or_else(|| Status::ok(""));
        let mut trailers = HeaderMap::new();
        // Adding the headers fails only if a header of the status is malformed. The client then gets no status, and
        // treats the stream as broken.
        let _ = status.add_header(&mut trailers);
        self.trailers = Some(trailers);
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
    frame.reserve(PREFIX_BYTES + if length <= COPIED_BYTES { length } else { 0 });
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}
