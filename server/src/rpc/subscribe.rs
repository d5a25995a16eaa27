//! This module implements SubscribeEvents. If the caller requests a snapshot of the run, the stream sends the snapshot
//! first and then the events of the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt, stream};
use runhub_api::v1::SubscribeStart;
use runhub_api::v1::subscribe_events_response::Message as ProtoMessage;
use runhub_api::{EncodedResponse, v1};
use tonic::Status;

use super::snapshot::spool::SpooledParts;
use super::{EncodedEvent, Hub, field, snapshot};
use crate::actions::snapshot::SnapshotLimits;
use crate::domain::event::Event;
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::watch::{EndReason, Message, StartPoint, WatchRequest, Watcher, WatcherEvent};

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(15);
const BOOKMARK_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// A parsed SubscribeEvents call.
pub struct Subscription {
    /// The log_id of the cursor's log. If the caller has named no log, the value is None.
    log_id: Option<String>,
    /// The id of the run whose snapshot is sent first, and the limits of the snapshot. If no snapshot is sent, the
    /// value is None.
    snapshot: Option<(String, SnapshotLimits)>,
    watch: WatchRequest,
}

impl Subscription {
    /// Parses a SubscribeEvents request. Fails if a field is invalid.
    pub fn parse(request: &v1::SubscribeEventsRequest) -> Result<Self> {
        let run_id = field::id_or_any("run_id", &request.run_id)?;
        let after = field::optional_counter("after_position", request.after_position)?;
        let start = SubscribeStart::try_from(request.start);
        let start = start.map_err(|_| field::unknown_code("start", request.start))?;
        let from_snapshot = start == SubscribeStart::FromSnapshot && after.is_none();
        if from_snapshot && run_id.is_none() {
            return Err(Error::field("run_id", "a subscription with start FROM_SNAPSHOT requires a run: set run_id"));
        }
        let limits = snapshot::parse_limits(&request.into())?;
        let snapshot = run_id.clone().filter(|_| from_snapshot).map(|run_id| (run_id, limits));
        let start = match (after, start) {
            (Some(after), _) => StartPoint::After(after),
            (None, SubscribeStart::FromNow) => StartPoint::Now,
            (None, _) => StartPoint::Beginning,
        };
        let filter = field::event_filter(&request.kinds, &request.sources, request.task_id.as_deref())?;
        let bookmark_interval = parse_interval(request)?;
        let log_id = field::optional_id("log_id", request.log_id.as_deref())?;
        Ok(Self { log_id, snapshot, watch: WatchRequest { run_id, filter, start, bookmark_interval } })
    }
}

fn parse_interval(request: &v1::SubscribeEventsRequest) -> Result<Duration> {
    let interval = field::duration("bookmark_interval", request.bookmark_interval.as_ref())?;
    let interval = interval.unwrap_or(BOOKMARK_INTERVAL);
    if !BOOKMARK_INTERVALS.contains(&interval) {
        let problem = format!("the bookmark interval must be between 100 ms and 1 h, not {interval:?}");
        return Err(Error::field("bookmark_interval", problem));
    }
    Ok(interval)
}

impl Hub {
    /// Starts a subscription and returns the stream of messages. Fails before the first message if the cursor belongs
    /// to another log, the run does not exist, or the position is invalid.
    pub async fn subscribe(
        &self,
        subscription: Subscription,
    ) -> Result<impl Stream<Item = Result<EncodedResponse, Status>> + use<>> {
        let Subscription { log_id, snapshot, mut watch } = subscription;
        self.check_log(log_id.as_deref())?;
        let mut parts = SpooledParts::default();
        if let Some((run_id, requested)) = snapshot {
            let (snapshot, position) = self.take_snapshot(run_id, requested).await?;
            // The snapshot contains the effects of all events up to the snapshot's position, so the watcher needs only
            // the later events.
            watch.start = StartPoint::After(position);
            parts = snapshot;
        }
        let watcher = Watcher::start(&self.store, &self.tail, self.draining.clone(), watch).await?;
        let parts = stream::unfold(parts, |mut parts| async {
            let next = parts.next().await.transpose()?;
            Some((next.map(EncodedResponse::from).map_err(Status::from), parts))
        });
        let messages = stream::unfold(watcher, |mut watcher| async {
            let next = watcher.next().await?;
            let next = next.map(|message| to_proto(message, watcher.log_id()));
            Some((next.map_err(Status::from), watcher))
        });
        Ok(parts.chain(messages))
    }

    /// Reads the snapshot of a run, and returns its parts and its position. Fails if the run does not exist, if the
    /// spool is full, or if the server can't read the snapshot in time.
    async fn take_snapshot(&self, run_id: String, requested: SnapshotLimits) -> Result<(SpooledParts, i64)> {
        let reading = self.snapshots.start().await?;
        let spool = Arc::clone(&self.spool);
        let log_id = self.store.log_id().to_owned();
        let read = move |tx: &mut dyn Tx| {
            let _reading = &reading;
            let deadline = Instant::now() + limits::SNAPSHOT_TIME;
            snapshot::spool_parts(tx, &run_id, &log_id, &requested, &spool, deadline)
        };
        self.store.read(read).await
    }

    /// Fails if the caller has named another log than the server's log. A cursor would skip or repeat events in another
    /// log.
    pub fn check_log(&self, log_id: Option<&str>) -> Result<()> {
        match log_id {
            Some(log_id) if log_id != self.store.log_id() => {
                Err(Error::LogChanged { log_id: log_id.to_owned(), actual: self.store.log_id().to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn encode(message: ProtoMessage) -> EncodedResponse {
    v1::SubscribeEventsResponse { message: Some(message) }.into()
}

impl WatcherEvent for EncodedEvent {
    fn from_event(event: Event) -> Self {
        encode(ProtoMessage::Event(event.into()))
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

fn to_proto(message: Message<EncodedEvent>, log_id: &str) -> EncodedResponse {
    match message {
        Message::Event(event) => event,
        Message::CaughtUp(position) => {
            encode(ProtoMessage::CaughtUp(v1::CaughtUp { position, log_id: log_id.to_owned() }))
        }
        Message::Bookmark(position) => encode(ProtoMessage::Bookmark(v1::Bookmark { position })),
        Message::End(reason, position) => {
            encode(ProtoMessage::End(v1::End { reason: to_proto_reason(reason).into(), position }))
        }
    }
}

fn to_proto_reason(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::RunEnded => v1::EndReason::RunEnded,
        EndReason::RunDeleted => v1::EndReason::RunDeleted,
        EndReason::Draining => v1::EndReason::Draining,
    }
}
