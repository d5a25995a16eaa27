//! This module subscribes to events. A subscription resumes after a broken connection.

use std::collections::VecDeque;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff};
use futures_util::{Stream, stream};
use runhub_api::v1::subscribe_events_response::Message;
use runhub_api::v1::{Bookmark, CaughtUp, EndReason, Event, GetServerInfoRequest, RunSnapshot, SubscribeEventsRequest};
use runhub_api::{MAX_RESPONSE_BYTES, v1};
use tonic::Streaming;

use crate::connect::DEADLINE;
use crate::connections::CallConnection;
use crate::repeat::{LONGEST_DELAY, build_delays};
use crate::{Client, Error};

/// A message of a subscription. Every message has a position, which is a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The whole state of the run. If the request starts with `FROM_SNAPSHOT`, the subscription yields the snapshot
    /// once, as the first message.
    Snapshot(Box<RunSnapshot>),
    /// An event that matches the request.
    Event(Box<Event>),
    /// All stored events up to this position have been yielded, and the following events are live. The subscription
    /// yields this message only once, even if the subscription resumes.
    CaughtUp(i64),
    /// Every matching event up to this position has been yielded.
    Bookmark(i64),
    /// The last message. The run has ended and all its events have been yielded, or the run was deleted.
    End(EndReason, i64),
}

/// An interruption of a subscription, which the subscription reports to the handler of
/// [`on_interruption`](Subscription::on_interruption).
#[derive(Debug, Clone, Copy)]
pub enum Interruption<'a> {
    /// The stream has ended or can't be opened, and the subscription tries to open another stream. Contains the error
    /// of the stream. If the server has ended the stream without an error, for example because the server shuts down,
    /// the value is None.
    Began(Option<&'a Error>),
    /// The subscription receives messages again. No message was missed.
    Ended,
}

type InterruptionHandler = Box<dyn FnMut(Interruption<'_>) + Send>;

/// A stream of events without a gap or a duplicate. The stream resumes after broken connections and restarts of the
/// server.
pub struct Subscription {
    client: Client,
    /// The request for the next stream. Its `after_position` is the cursor, and its `log_id` names the cursor's log.
    request: SubscribeEventsRequest,
    stream: Option<OpenStream>,
    delays: ExponentialBackoff,
    /// Time limit of the call that reads the server's log_id.
    deadline: Duration,
    /// Updates that have been received but not yielded.
    received: VecDeque<Update>,
    /// Snapshot parts that have been received, joined into one snapshot. If no snapshot is being received, the value is
    /// None.
    snapshot: Option<RunSnapshot>,
    caught_up: bool,
    ended: bool,
    /// If the subscription has received no message since a stream ended or could not be opened, the value is true.
    is_interrupted: bool,
    on_interruption: Option<InterruptionHandler>,
}

impl Client {
    /// Returns a subscription to the events that match the request. The first call of `next` opens a stream. If a
    /// stream breaks, the subscription opens another stream.
    ///
    /// To continue an earlier subscription, set `after_position` and `log_id` to the earlier subscription's
    /// [`position`](Subscription::position) and [`log_id`](Subscription::log_id). If the server has another log, the
    /// subscription yields only an error with [`Reason::LogChanged`](crate::Reason::LogChanged).
    pub fn subscribe(&self, request: SubscribeEventsRequest) -> Subscription {
        Subscription {
            // The subscription retries calls itself and without a deadline, so the client must not retry calls.
            client: self.clone().without_retry(),
            request,
            stream: None,
            delays: build_delays().build(),
            deadline: self.deadline.unwrap_or(DEADLINE),
            received: VecDeque::new(),
            snapshot: None,
            caught_up: false,
            ended: false,
            is_interrupted: false,
            on_interruption: None,
        }
    }
}

impl Subscription {
    /// Returns the cursor, which is the last position received or, before the first message, the request's cursor.
    /// Returns None if there is no cursor yet.
    ///
    /// Another process can continue the subscription with the cursor and the [`log_id`](Self::log_id).
    pub fn position(&self) -> Option<i64> {
        self.request.after_position
    }

    /// Returns the log_id of the log in which the cursor is valid. Before the first message, returns the request's
    /// log_id, or None if the request has no log_id.
    pub fn log_id(&self) -> Option<&str> {
        self.request.log_id.as_deref()
    }

    /// Calls `handler` when an interruption begins and when it ends, once each, however many times the subscription
    /// tries to open a stream in between. The subscription resumes by itself. The handler lets a program tell a person
    /// why no events arrive. If the subscription ends during an interruption, [`Interruption::Ended`] is not reported.
    pub fn on_interruption(mut self, handler: impl FnMut(Interruption<'_>) + Send + 'static) -> Self {
        self.on_interruption = Some(Box::new(handler));
        self
    }

    /// Returns the next update. An error that is not temporary is the last item. After the last item, the function
    /// returns None.
    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        loop {
            if let Some(update) = self.received.pop_front() {
                return Some(Ok(update));
            }
            if self.ended {
                return None;
            }
            match self.receive().await {
                Ok(()) if self.stream.is_some() || self.ended => self.report_interruption_end(),
                Ok(()) => self.wait_before_retry(None).await,
                Err(error) if error.is_temporary() => self.wait_before_retry(Some(error)).await,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Converts the subscription to a stream of its updates.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, Error>> + Send {
        stream::unfold(self, |mut subscription| async {
            let next = subscription.next().await?;
            Some((next, subscription))
        })
    }

    /// Reports the interruption if it has just begun, and waits before the next stream is opened. If the stream has
    /// failed, `error` is the error of the stream, and the delay is at least the retry delay of the server.
    async fn wait_before_retry(&mut self, error: Option<Error>) {
        self.stream = None;
        if !std::mem::replace(&mut self.is_interrupted, true) {
            self.report(Interruption::Began(error.as_ref()));
        }
        let delay = self.delays.next().unwrap_or(LONGEST_DELAY);
        let retry_delay = error.and_then(|error| error.retry_delay()).unwrap_or_default();
        tokio::time::sleep(delay.max(retry_delay)).await;
    }

    fn report_interruption_end(&mut self) {
        if std::mem::take(&mut self.is_interrupted) {
            self.report(Interruption::Ended);
        }
    }

    fn report(&mut self, interruption: Interruption<'_>) {
        if let Some(handler) = &mut self.on_interruption {
            handler(interruption);
        }
    }

    /// Receives one message. If no stream is open, first opens a stream. Fails if the stream can't be opened or breaks.
    async fn receive(&mut self) -> Result<(), Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                self.read_log_id().await?;
                // If the last stream broke during the snapshot, the server sends the snapshot again from its first
                // part. Without the reset, the parts of the last stream would appear twice.
                self.snapshot = None;
                self.stream.insert(open_stream(&self.client, &self.request).await?)
            }
        };
        match stream.messages.message().await? {
            Some(response) => {
                self.delays = build_delays().build();
                self.apply(response);
            }
            // The stream has ended without an `end` message, for example because a proxy closed the stream.
            None => self.stream = None,
        }
        Ok(())
    }

    /// Reads the server's log_id for the first stream if the request has no log_id. A cursor is valid in one log only.
    /// In another log, for example after a restore, the cursor would skip or repeat events. Every stream therefore
    /// names the log of the first stream, and the server refuses the stream if the server has another log.
    async fn read_log_id(&mut self) -> Result<(), Error> {
        if self.request.log_id.is_some() {
            return Ok(());
        }
        let info = tokio::time::timeout(self.deadline, self.client.get_server_info(GetServerInfoRequest {})).await;
        let info = info
            .unwrap_or_else(|_| Err(Error::unanswered("the server did not answer before the deadline of the call")))?;
        self.request.log_id = Some(info.log_id);
        Ok(())
    }

    fn apply(&mut self, response: v1::SubscribeEventsResponse) {
        match response.message {
            None => {}
            Some(Message::Snapshot(part)) => self.add_snapshot_part(part),
            Some(Message::Event(event)) => {
                self.move_cursor_to(event.position);
                self.received.push_back(Update::Event(Box::new(event)));
            }
            Some(Message::Bookmark(Bookmark { position })) => {
                self.move_cursor_to(position);
                self.received.push_back(Update::Bookmark(position));
            }
            Some(Message::CaughtUp(CaughtUp { position, .. })) => {
                self.move_cursor_to(position);
                if !self.caught_up {
                    self.caught_up = true;
                    self.received.push_back(Update::CaughtUp(position));
                }
            }
            Some(Message::End(end)) => {
                self.move_cursor_to(end.position);
                self.apply_end(end.reason(), end.position);
            }
        }
    }

    /// Adds a part to the snapshot, and yields the snapshot after the last part. Only the last part has a position.
    fn add_snapshot_part(&mut self, part: RunSnapshot) {
        let position = part.position;
        let mut snapshot = self.snapshot.take().unwrap_or_default();
        snapshot.append(part);
        if position == 0 {
            self.snapshot = Some(snapshot);
            return;
        }
        self.move_cursor_to(position);
        self.received.push_back(Update::Snapshot(Box::new(snapshot)));
    }

    fn move_cursor_to(&mut self, position: i64) {
        self.request.after_position = Some(position);
    }

    fn apply_end(&mut self, reason: EndReason, position: i64) {
        if reason == EndReason::Draining {
            // DRAINING ends only the stream. The subscription resumes on the server that starts next at the address.
            self.stream = None;
            return;
        }
        self.ended = true;
        self.received.push_back(Update::End(reason, position));
    }
}

/// A stream of events, with the stream's slot on a connection.
struct OpenStream {
    messages: Streaming<v1::SubscribeEventsResponse>,
    _connection: CallConnection,
}

async fn open_stream(client: &Client, request: &SubscribeEventsRequest) -> Result<OpenStream, Error> {
    let connection = client.connections.for_held_call();
    let stub = v1::event_service_client::EventServiceClient::new(connection.channel.clone());
    let mut stub = stub.max_decoding_message_size(MAX_RESPONSE_BYTES);
    let messages = stub.subscribe_events(request.clone()).await?.into_inner();
    Ok(OpenStream { messages, _connection: connection })
}
