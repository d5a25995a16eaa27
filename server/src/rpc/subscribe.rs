//! SubscribeEvents: a snapshot of the run if the caller asks for it, then the events of the log.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use runhub_api::v1::SubscribeStart;
use runhub_api::v1::subscribe_events_response::Message as ProtoMessage;
use runhub_api::{Encoded, v1};
use tonic::Status;

use super::{Hub, ShownEvent, field, snapshot};
use crate::domain::event::Event;
use crate::error::{Error, Result};
use crate::watch::{EndReason, Message, Shown, Start, Watch, WatchRequest};

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(15);
const BOOKMARK_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Maximum size of a message with a part of a snapshot, which every client accepts.
const PART_BYTES: usize = 2 * 1024 * 1024;

/// A SubscribeEvents call.
pub struct Subscription {
    /// The run whose snapshot comes first. None: no snapshot.
    snapshot_of: Option<String>,
    watch: WatchRequest,
}

impl Subscription {
    /// Parses a request.
    pub fn parse(request: &v1::SubscribeEventsRequest) -> Result<Self> {
        let run_id = field::id_or_any("run_id", &request.run_id)?;
        let after = field::counter("after_position", request.after_position)?;
        let start = SubscribeStart::try_from(request.start);
        let start = start.map_err(|_| field::unknown_code("start", request.start))?;
        let from_snapshot = start == SubscribeStart::FromSnapshot && after.is_none();
        if from_snapshot && run_id.is_none() {
            return Err(Error::field("run_id", "must be set if start is FROM_SNAPSHOT"));
        }
        let snapshot_of = run_id.clone().filter(|_| from_snapshot);
        let start = match (after, start) {
            (Some(after), _) => Start::After(after),
            (None, SubscribeStart::FromNow) => Start::Now,
            (None, _) => Start::Beginning,
        };
        let filter = field::event_filter(&request.kinds, &request.sources, request.task_id.as_deref())?;
        let bookmark_interval = parse_interval(request)?;
        Ok(Self { snapshot_of, watch: WatchRequest { run_id, filter, start, bookmark_interval } })
    }
}

fn parse_interval(request: &v1::SubscribeEventsRequest) -> Result<Duration> {
    let interval = field::duration("bookmark_interval", request.bookmark_interval.as_ref())?;
    let interval = interval.unwrap_or(BOOKMARK_INTERVAL);
    if !BOOKMARK_INTERVALS.contains(&interval) {
        return Err(Error::field("bookmark_interval", "must be 100 ms to 1 h"));
    }
    Ok(interval)
}

impl Hub {
    /// Begins a subscription. Everything that can be refused is refused here, before the first message.
    pub async fn subscribe(
        &self,
        subscription: Subscription,
    ) -> Result<impl Stream<Item = Result<Encoded, Status>> + use<>> {
        let Subscription { snapshot_of, mut watch } = subscription;
        let mut parts = Vec::new();
        if let Some(run_id) = snapshot_of {
            let limits = snapshot::parse_limits(&v1::GetRunSnapshotRequest::default())?;
            let snapshot = self.store.read(move |tx| snapshot::take(tx, &run_id, limits)).await?;
            // Every event that the snapshot does not contain has a larger position.
            watch.start = Start::After(snapshot.position);
            parts = snapshot.into_parts(PART_BYTES);
        }
        let watch = Watch::begin(&self.store, &self.tail, self.draining.clone(), watch).await?;
        let parts = stream::iter(parts.into_iter().map(|part| Ok(encoded(ProtoMessage::Snapshot(part)))));
        let messages = stream::unfold(watch, |mut watch| async {
            let next = watch.next().await?;
            Some((next.map(to_proto).map_err(Status::from), watch))
        });
        Ok(parts.chain(messages))
    }
}

fn encoded(message: ProtoMessage) -> Encoded {
    v1::SubscribeEventsResponse { message: Some(message) }.into()
}

impl Shown for ShownEvent {
    fn of(event: Event) -> Self {
        encoded(ProtoMessage::Event(event.into()))
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

fn to_proto(message: Message<ShownEvent>) -> Encoded {
    match message {
        Message::Event(event) => event,
        Message::CaughtUp(position) => encoded(ProtoMessage::CaughtUp(v1::CaughtUp { position })),
        Message::Bookmark(position) => encoded(ProtoMessage::Bookmark(v1::Bookmark { position })),
        Message::End(reason, position) => {
            encoded(ProtoMessage::End(v1::End { reason: proto_reason(reason).into(), position }))
        }
    }
}

fn proto_reason(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::RunEnded => v1::EndReason::RunEnded,
        EndReason::RunDeleted => v1::EndReason::RunDeleted,
        EndReason::Draining => v1::EndReason::Draining,
    }
}
