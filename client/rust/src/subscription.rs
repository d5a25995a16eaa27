//! Subscriptions that resume after broken connections.

use std::collections::VecDeque;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff};
use futures_util::{Stream, stream};
use runhub_api::v1::subscribe_events_response::Message;
use runhub_api::v1::{Bookmark, CaughtUp, EndReason, Event, GetServerInfoRequest, RunSnapshot, SubscribeEventsRequest};
use runhub_api::{MAX_RESPONSE_BYTES, v1};
use tonic::Streaming;

use crate::connect::DEADLINE;
use crate::repeat::{LONGEST_DELAY, delays};
use crate::{Client, Error};

/// A message of a subscription. Each has a position, which is a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The whole state of the run when the subscription began with `FROM_SNAPSHOT`. The subscription yields it once, first.
    Snapshot(Box<RunSnapshot>),
    /// An event that matches the request.
    Event(Box<Event>),
    /// All stored events up to this position have been yielded; the following events are live. The subscription yields this
    /// once, however often it resumes.
    CaughtUp(i64),
    /// Every matching event up to this position has been yielded.
    Bookmark(i64),
    /// The last message: the run has ended and all its events have been yielded, or the run was deleted.
    End(EndReason, i64),
}

/// A stream of events without a gap or a duplicate, through broken connections and restarts of the server.
pub struct Subscription {
    client: Client,
    request: SubscribeEventsRequest,
    stream: Option<Streaming<v1::SubscribeEventsResponse>>,
    delays: ExponentialBackoff,
    /// The time limit of the call that reads the server's log_id.
    deadline: Duration,
    /// The log that the subscription follows. None before the first stream.
    log_id: Option<String>,
    /// Updates that have been received and not yet yielded.
    received: VecDeque<Update>,
    /// The parts of the snapshot received so far; None if no snapshot is being received.
    snapshot: Option<RunSnapshot>,
    caught_up: bool,
    ended: bool,
}

impl Client {
    /// Subscribes to events. The subscription opens its stream with the first `next`, and again whenever the stream breaks.
    pub fn subscribe(&self, request: SubscribeEventsRequest) -> Subscription {
        Subscription {
            // The subscription has a retry of its own, without a deadline.
            client: self.clone().without_retry(),
            request,
            stream: None,
            delays: delays().build(),
            deadline: self.deadline.unwrap_or(DEADLINE),
            log_id: None,
            received: VecDeque::new(),
            snapshot: None,
            caught_up: false,
            ended: false,
        }
    }
}

impl Subscription {
    /// Returns the cursor: the last position received. None before the first message, unless the request has a cursor.
    ///
    /// Together with [`log_id`](Self::log_id), the cursor lets another process continue the subscription.
    pub fn position(&self) -> Option<i64> {
        self.request.after_position
    }

    /// Returns the log in which the cursor is valid. None before the first message.
    pub fn log_id(&self) -> Option<&str> {
        self.log_id.as_deref()
    }

    /// Accepts only this log: if the server has another one, the subscription yields only [`Error::OtherLog`].
    pub fn in_log(mut self, log_id: impl Into<String>) -> Self {
        self.log_id = Some(log_id.into());
        self
    }

    /// Returns the next update. An error that is not temporary is the last item. Returns None after the last item.
    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        loop {
            if let Some(update) = self.received.pop_front() {
                return Some(Ok(update));
            }
            if self.ended {
                return None;
            }
            match self.receive().await {
                Ok(()) if self.stream.is_some() || self.ended => {}
                Ok(()) => self.pause(None).await,
                Err(error) if error.is_passing() => {
                    self.stream = None;
                    self.pause(error.retry_delay()).await;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Turns the subscription into a stream of its updates.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, Error>> + Send {
        stream::unfold(self, |mut subscription| async {
            let next = subscription.next().await?;
            Some((next, subscription))
        })
    }

    /// Waits before the next try, at least for the server's retry delay.
    async fn pause(&mut self, retry_delay: Option<Duration>) {
        let delay = self.delays.next().unwrap_or(LONGEST_DELAY);
        tokio::time::sleep(delay.max(retry_delay.unwrap_or_default())).await;
    }

    /// Receives one message, and opens a stream first if there is none.
    async fn receive(&mut self) -> Result<(), Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                self.check_log().await?;
                // If the last stream broke within the snapshot, the server sends the snapshot again from its first part.
                self.snapshot = None;
                self.stream.insert(open(&self.client, &self.request).await?)
            }
        };
        match stream.message().await? {
            Some(response) => {
                self.delays = delays().build();
                self.take(response);
            }
            // The stream ended without an `end` message, as when a proxy closes it.
            None => self.stream = None,
        }
        Ok(())
    }

    /// Checks that the server has the log that the subscription follows. A cursor is valid in one log only: in another one,
    /// for example after a restore, it would skip or repeat events.
    async fn check_log(&mut self) -> Result<(), Error> {
        let info = tokio::time::timeout(self.deadline, self.client.get_server_info(GetServerInfoRequest {})).await;
        let log_id = info.unwrap_or_else(|_| Err(Error::unanswered("no answer before the deadline")))?.log_id;
        match &self.log_id {
            Some(known) if *known != log_id => Err(Error::OtherLog),
            _ => {
                self.log_id = Some(log_id);
                Ok(())
            }
        }
    }

    fn take(&mut self, response: v1::SubscribeEventsResponse) {
        match response.message {
            None => {}
            Some(Message::Snapshot(part)) => self.take_part(part),
            Some(Message::Event(event)) => {
                self.move_cursor_to(event.position);
                self.received.push_back(Update::Event(Box::new(event)));
            }
            Some(Message::Bookmark(Bookmark { position })) => {
                self.move_cursor_to(position);
                self.received.push_back(Update::Bookmark(position));
            }
            Some(Message::CaughtUp(CaughtUp { position })) => {
                self.move_cursor_to(position);
                if !self.caught_up {
                    self.caught_up = true;
                    self.received.push_back(Update::CaughtUp(position));
                }
            }
            Some(Message::End(end)) => {
                self.move_cursor_to(end.position);
                self.take_end(end.reason(), end.position);
            }
        }
    }

    /// Adds a part to the snapshot. Only the last part has a position.
    fn take_part(&mut self, part: RunSnapshot) {
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

    fn take_end(&mut self, reason: EndReason, position: i64) {
        if reason == EndReason::Draining {
            // The subscription resumes at the next server.
            self.stream = None;
            return;
        }
        self.ended = true;
        self.received.push_back(Update::End(reason, position));
    }
}

async fn open(
    client: &Client,
    request: &SubscribeEventsRequest,
) -> Result<Streaming<v1::SubscribeEventsResponse>, Error> {
    let stub = v1::event_service_client::EventServiceClient::new(client.channel.clone());
    let mut stub = stub.max_decoding_message_size(MAX_RESPONSE_BYTES);
    Ok(stub.subscribe_events(request.clone()).await?.into_inner())
}
