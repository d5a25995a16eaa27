//! This module implements EventService.

use futures_util::stream;
use runhub_api::v1::event_service_server::EventService;
use runhub_api::{EncodedResponse, v1};
use tonic::{Request, Response, Status};

use super::calls::events::Subscribed;
use super::list_events::ListEvents;
use super::subscribe::Subscription;
use super::{Hub, Reply, field};
use crate::actions::event::{self, CallerEvent};
use crate::domain::event::EventDraft;
use crate::error::{Error, Result};
use crate::store::events::AppendResult;

#[tonic::async_trait]
impl EventService for Hub {
    async fn append_events(&self, request: Request<v1::AppendEventsRequest>) -> Reply<v1::AppendEventsResponse> {
        let appended = self.write(
            request,
            |request| Ok((field::id("run_id", &request.run_id)?, parse_events(&request.events)?)),
            |tx, (run_id, events)| event::append(tx, run_id, events),
            |AppendResult { first_seq, last_seq, last_position }| v1::AppendEventsResponse {
                first_seq,
                last_seq,
                last_position,
                log_id: String::new(),
            },
        );
        let mut response = appended.await?;
        // The store keeps the answer without a log_id. A restored database has a new log_id, and contains the event of
        // every stored answer, so a repeated call must get the new log_id with the same position.
        response.get_mut().log_id = self.store.log_id().to_owned();
        Ok(response)
    }

    async fn list_events(&self, request: Request<v1::ListEventsRequest>) -> Reply<v1::ListEventsResponse> {
        let list = ListEvents::parse(request.get_ref())?;
        Ok(Response::new(self.list(list).await?))
    }

    type SubscribeEventsStream = stream::Empty<Result<EncodedResponse, Status>>;

    async fn subscribe_events(
        &self,
        request: Request<v1::SubscribeEventsRequest>,
    ) -> Reply<Self::SubscribeEventsStream> {
        let subscription = Subscription::parse(request.get_ref())?;
        let messages = Subscribed::new(self.subscribe(subscription).await?);
        // `calls` sends the messages instead of tonic.
        let mut response: Response<Self::SubscribeEventsStream> = Response::new(stream::empty());
        response.extensions_mut().insert(messages);
        Ok(response)
    }
}

fn parse_events(events: &[v1::EventDraft]) -> Result<Vec<CallerEvent>> {
    field::batch_entries("events", events.len())?;
    if events.is_empty() {
        return Err(Error::field("events", "the list of events is empty: pass at least one event"));
    }
    let parse = |(at, event): (usize, &v1::EventDraft)| {
        parse_event(event).map_err(|error| error.within(|| format!("events[{at}]")))
    };
    events.iter().enumerate().map(parse).collect()
}

fn parse_event(event: &v1::EventDraft) -> Result<CallerEvent> {
    let draft = EventDraft {
        task_key: None,
        source: field::source("source", &event.source)?,
        kind: field::name("kind", &event.kind)?,
        message: field::text("message", &event.message)?,
        payload: field::json("payload", event.payload.as_ref())?,
    };
    Ok(CallerEvent { task_id: field::optional_id("task_id", event.task_id.as_deref())?, draft })
}
