//! EventService.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use runhub_api::v1;
use runhub_api::v1::event_service_server::EventService;
use runhub_api::v1::subscribe_events_response::Message as ProtoMessage;
use tonic::{Request, Response, Status};

use super::mutate::CallId;
use super::{Hub, field, page};
use crate::domain::event::{Event, EventDraft, EventFilter};
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::events::{self, Appended, Scan, ScanEnd};
use crate::store::{Limit, Tx, runs, tasks};
use crate::watch::{self, EndReason, Message, Start, Watch, WatchRequest};

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(15);
const BOOKMARK_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

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

    type SubscribeEventsStream =
        Pin<Box<dyn Stream<Item = Result<v1::SubscribeEventsResponse, Status>> + Send + 'static>>;

    async fn subscribe_events(
        &self,
        request: Request<v1::SubscribeEventsRequest>,
    ) -> Result<Response<Self::SubscribeEventsStream>, Status> {
        let request = parse_watch(&request.into_inner())?;
        let watch = Watch::begin(&self.store, self.draining.clone(), request).await?;
        let messages = stream::unfold(watch, |mut watch| async {
            let next = watch.next().await?;
            Some((next.map(proto_message).map_err(Status::from), watch))
        });
        Ok(Response::new(Box::pin(messages)))
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
    let run_key = runs::key(tx, run_id)?;
    let mut resolved = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let task_key = draft.task_id.as_deref().map(|id| tasks::key_in_run(tx, run_key, id)).transpose()?;
        resolved.push(EventDraft { task_key, ..draft.event.clone() });
    }
    events::append_all(tx, run_key, &resolved)
}

struct ListEvents {
    run_id: Option<String>,
    after: Option<i64>,
    before: Option<i64>,
    filter: EventFilter,
    limit: Limit,
}

impl ListEvents {
    fn parse(request: &v1::ListEventsRequest) -> Result<Self> {
        Ok(Self {
            run_id: field::id_or_any("run_id", &request.run_id)?,
            after: field::counter("after_position", request.after_position)?,
            before: field::counter("before_position", request.before_position)?,
            filter: parse_filter(&request.kinds, &request.sources, request.task_id.as_deref())?,
            limit: page::newest("limit", request.limit, limits::DEFAULT_EVENTS)?,
        })
    }

    /// Checks the scope and the cursor; returns what to look through, and the last position of that. What is
    /// committed from now on stands behind it: the reads that follow see no more than this one.
    fn begin(&self, tx: &mut dyn Tx) -> Result<(Scan, i64)> {
        let run_key = watch::check_scope(tx, self.run_id.as_deref(), self.filter.task_id.as_deref())?;
        let newest = watch::check_cursor(tx, self.after)?;
        let (after, newest_first) = (self.after.unwrap_or(0), self.after.is_none());
        let last = self.before.map_or(newest, |before| newest.min(before - 1)).max(after);
        let before = Some(last.saturating_add(1));
        Ok((Scan { run_key, after, before, newest_first, filter: self.filter.clone() }, last))
    }

    /// The answer: what fits of what was found, and the position up to which everything was looked at.
    fn answer(&self, found: Vec<Event>, end: ScanEnd, last: i64) -> v1::ListEventsResponse {
        if self.after.is_none() {
            return v1::ListEventsResponse { events: page::newest_fitting(found), next_position: last };
        }
        let all = found.len();
        let events: Vec<v1::Event> = page::fitting(found);
        let next_position = match (end, events.last()) {
            (_, Some(shown)) if events.len() < all => shown.position,
            (ScanEnd::Exhausted, _) => last,
            (ScanEnd::Full(at) | ScanEnd::Looked(at), _) => at,
        };
        v1::ListEventsResponse { events, next_position }
    }
}

impl Hub {
    /// In reads of a bounded length: a filter that lets little pass does not keep others waiting.
    async fn list(&self, list: ListEvents) -> Result<v1::ListEventsResponse> {
        let list = Arc::new(list);
        let begun = Arc::clone(&list);
        let (mut scan, last) = self.store.read(move |tx| begun.begin(tx)).await?;
        let mut events = Vec::new();
        loop {
            let limit = Limit { rows: list.limit.rows - events.len(), ..list.limit };
            let part = scan.clone();
            let found = self.store.read(move |tx| events::scan(tx, &part, limit)).await?;
            events.extend(found.events);
            let bytes: usize = events.iter().map(|event| event.payload.text().len()).sum();
            match found.end {
                ScanEnd::Looked(at) if events.len() < list.limit.rows && bytes < list.limit.bytes => {
                    scan.go_on_from(at);
                }
                end => return Ok(list.answer(events, end, last)),
            }
        }
    }
}

fn parse_filter(kinds: &[String], sources: &[String], task_id: Option<&str>) -> Result<EventFilter> {
    Ok(EventFilter {
        kinds: field::names("kinds", kinds)?,
        sources: field::names("sources", sources)?,
        task_id: field::optional_id("task_id", task_id)?,
    })
}

fn parse_watch(request: &v1::SubscribeEventsRequest) -> Result<WatchRequest> {
    let after = field::counter("after_position", request.after_position)?;
    let start = v1::SubscribeStart::try_from(request.start)
        .map_err(|_| Error::field("start", format!("has no value {}", request.start)))?;
    let start = match (after, start) {
        (Some(after), _) => Start::After(after),
        (None, v1::SubscribeStart::FromNow) => Start::Now,
        (None, _) => Start::After(0),
    };
    let interval = field::duration("bookmark_interval", request.bookmark_interval.as_ref())?;
    let bookmark_interval = interval.unwrap_or(BOOKMARK_INTERVAL);
    if !BOOKMARK_INTERVALS.contains(&bookmark_interval) {
        return Err(Error::field("bookmark_interval", "is outside 100 ms to 1 h"));
    }
    Ok(WatchRequest {
        run_id: field::id_or_any("run_id", &request.run_id)?,
        filter: parse_filter(&request.kinds, &request.sources, request.task_id.as_deref())?,
        start,
        bookmark_interval,
    })
}

fn proto_message(message: Message) -> v1::SubscribeEventsResponse {
    let message = match message {
        Message::Event(event) => ProtoMessage::Event((*event).into()),
        Message::CaughtUp(position) => ProtoMessage::CaughtUp(v1::CaughtUp { position }),
        Message::Bookmark(position) => ProtoMessage::Bookmark(v1::Bookmark { position }),
        Message::End(reason, position) => ProtoMessage::End(v1::End { reason: proto_reason(reason).into(), position }),
    };
    v1::SubscribeEventsResponse { message: Some(message) }
}

fn proto_reason(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::RunEnded => v1::EndReason::RunEnded,
        EndReason::Draining => v1::EndReason::Draining,
    }
}
