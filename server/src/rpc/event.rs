//! EventService.

use std::borrow::Cow;
use std::pin::Pin;

use futures_util::Stream;
use runhub_api::v1::event_service_server::EventService;
use runhub_api::{Encoded, v1};
use tonic::{Request, Response, Status};

use super::list_events::ListEvents;
use super::mutate::CallId;
use super::subscribe::Subscription;
use super::{Hub, field};
use crate::domain::event::EventDraft;
use crate::error::{Error, Result};
use crate::store::events::{self, Appended};
use crate::store::{Tx, runs, tasks};

#[tonic::async_trait]
impl EventService for Hub {
    async fn append_events(
        &self,
        request: Request<v1::AppendEventsRequest>,
    ) -> Result<Response<v1::AppendEventsResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        let drafts = parse_drafts(&request.events)?;
        // Several times as large as what waits in its place.
        drop(request);
        self.mutate(call, move |tx| {
            let Appended { first_seq, last_seq, last_position } = append(tx, &run_id, &drafts)?;
            Ok(v1::AppendEventsResponse { first_seq, last_seq, last_position })
        })
        .await
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let request = request.into_inner();
        let list = ListEvents::parse(&request)?;
        Ok(Response::new(self.list(list).await?))
    }

    type SubscribeEventsStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send + 'static>>;

    async fn subscribe_events(
        &self,
        request: Request<v1::SubscribeEventsRequest>,
    ) -> Result<Response<Self::SubscribeEventsStream>, Status> {
        let subscription = Subscription::parse(&request.into_inner())?;
        Ok(Response::new(Box::pin(self.subscribe(subscription).await?)))
    }
}

/// An event as a caller brings it: its task by id.
struct Draft {
    task_id: Option<String>,
    event: EventDraft,
}

fn parse_drafts(drafts: &[v1::EventDraft]) -> Result<Vec<Draft>> {
    field::batch("events", drafts.len())?;
    if drafts.is_empty() {
        return Err(Error::field("events", "is empty"));
    }
    drafts.iter().enumerate().map(|(at, draft)| parse_draft(&format!("events[{at}]"), draft)).collect()
}

fn parse_draft(at: &str, draft: &v1::EventDraft) -> Result<Draft> {
    let of = |name: &str| format!("{at}.{name}");
    let event = EventDraft {
        task_key: None,
        source: field::source(&of("source"), &draft.source)?,
        kind: field::name(&of("kind"), &draft.kind)?,
        message: field::text(&of("message"), &draft.message)?,
        payload: field::json(&of("payload"), draft.payload.as_ref())?,
    };
    Ok(Draft { task_id: field::optional_id(&of("task_id"), draft.task_id.as_deref())?, event })
}

fn append(tx: &mut dyn Tx, run_id: &str, drafts: &[Draft]) -> Result<Appended> {
    let (run_key, now) = (runs::key(tx, run_id)?, tx.now());
    // The body may run again, so it keeps the drafts; most name no task and are written as they are.
    let mut resolved = Vec::with_capacity(drafts.len());
    for Draft { task_id, event } in drafts {
        resolved.push(match task_id {
            None => Cow::Borrowed(event),
            Some(id) => {
                let task_key = Some(tasks::key_in_run(tx, run_key, id)?);
                Cow::Owned(EventDraft { task_key, ..event.clone() })
            }
        });
    }
    events::append_at(tx, run_key, resolved.iter().map(|event| (event.as_ref(), now)))
}
