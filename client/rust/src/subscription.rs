//! A subscription that resumes by itself.

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

/// What a subscription brings. Each has a position that is a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The run as it was when the subscription began with `FROM_SNAPSHOT`, whole. Comes once, before all else.
    Snapshot(Box<RunSnapshot>),
    /// Something happened.
    Event(Box<Event>),
    /// Everything stored was brought; what follows is live. Comes once, however often the subscription resumes.
    CaughtUp(i64),
    /// Nothing was missed up to here.
    Bookmark(i64),
    /// The run has ended and everything was brought, or it was deleted. Nothing follows.
    End(EndReason, i64),
}

/// A stream of events without a gap or a duplicate, however often the connection breaks or the server restarts.
pub struct Subscription {
    client: Client,
    request: SubscribeEventsRequest,
    stream: Option<Streaming<v1::SubscribeEventsResponse>>,
    delays: ExponentialBackoff,
    /// How long the server may take to say which log it has.
    deadline: Duration,
    /// Of the server it was subscribed to first.
    log_id: Option<String>,
    waiting: VecDeque<Update>,
    /// What has come of the snapshot so far, while parts of it come.
    snapshot: Option<RunSnapshot>,
    caught_up: bool,
    ended: bool,
}

impl Client {
    /// Subscribes to events. It connects with the first `next`, and again whenever the stream breaks.
    pub fn subscribe(&self, request: SubscribeEventsRequest) -> Subscription {
        Subscription {
            // It comes back by itself, without a deadline.
            client: self.clone().without_retry(),
            request,
            stream: None,
            delays: delays().build(),
            deadline: self.deadline.unwrap_or(DEADLINE),
            log_id: None,
            waiting: VecDeque::new(),
            snapshot: None,
            caught_up: false,
            ended: false,
        }
    }
}

impl Subscription {
    /// The cursor: the last position received. None before the first message of a subscription without one.
    ///
    /// To go on with in another process, together with [`log_id`](Self::log_id).
    pub fn position(&self) -> Option<i64> {
        self.request.after_position
    }

    /// The log that the cursor is good for. None before the first message.
    pub fn log_id(&self) -> Option<&str> {
        self.log_id.as_deref()
    }

    /// Goes on in this log only: if the server has another one, it brings [`Error::OtherLog`] and nothing else.
    pub fn in_log(mut self, log_id: impl Into<String>) -> Self {
        self.log_id = Some(log_id.into());
        self
    }

    /// The next update; None after the end or a refusal.
    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        loop {
            if let Some(update) = self.waiting.pop_front() {
                return Some(Ok(update));
            }
            if self.ended {
                return None;
            }
            match self.receive().await {
                Ok(()) if self.stream.is_some() || self.ended => {}
                Ok(()) => self.wait(None).await,
                Err(error) if error.is_passing() => {
                    self.stream = None;
                    self.wait(error.retry_delay()).await;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, Error>> + Send {
        stream::unfold(self, |mut subscription| async {
            let next = subscription.next().await?;
            Some((next, subscription))
        })
    }

    /// Until it is worth trying again; not sooner than told.
    async fn wait(&mut self, told: Option<Duration>) {
        let delay = self.delays.next().unwrap_or(LONGEST_DELAY);
        tokio::time::sleep(delay.max(told.unwrap_or_default())).await;
    }

    async fn receive(&mut self) -> Result<(), Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                self.check_log().await?;
                // Broken off within the snapshot it begins anew.
                self.snapshot = None;
                self.stream.insert(open(&self.client, &self.request).await?)
            }
        };
        match stream.message().await? {
            Some(response) => {
                self.delays = delays().build();
                self.take(response);
            }
            // Broken off before its `end`: a proxy, say.
            None => self.stream = None,
        }
        Ok(())
    }

    /// A cursor is good for one log: after a restore, say, it would skip or repeat without a word.
    async fn check_log(&mut self) -> Result<(), Error> {
        let asked = tokio::time::timeout(self.deadline, self.client.get_server_info(GetServerInfoRequest {})).await;
        let log_id = asked.unwrap_or_else(|_| Err(Error::unanswered("no answer in time")))?.log_id;
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
                self.move_to(event.position);
                self.waiting.push_back(Update::Event(Box::new(event)));
            }
            Some(Message::Bookmark(Bookmark { position })) => {
                self.move_to(position);
                self.waiting.push_back(Update::Bookmark(position));
            }
            Some(Message::CaughtUp(CaughtUp { position })) => {
                self.move_to(position);
                if !std::mem::replace(&mut self.caught_up, true) {
                    self.waiting.push_back(Update::CaughtUp(position));
                }
            }
            Some(Message::End(end)) => {
                self.move_to(end.position);
                self.take_end(end.reason(), end.position);
            }
        }
    }

    /// The last part alone has a position.
    fn take_part(&mut self, part: RunSnapshot) {
        let position = part.position;
        let mut snapshot = self.snapshot.take().unwrap_or_default();
        snapshot.append(part);
        if position == 0 {
            self.snapshot = Some(snapshot);
            return;
        }
        self.move_to(position);
        self.waiting.push_back(Update::Snapshot(Box::new(snapshot)));
    }

    fn move_to(&mut self, position: i64) {
        self.request.after_position = Some(position);
    }

    fn take_end(&mut self, reason: EndReason, position: i64) {
        if reason == EndReason::Draining {
            // Its successor goes on from here.
            self.stream = None;
            return;
        }
        self.ended = true;
        self.waiting.push_back(Update::End(reason, position));
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
