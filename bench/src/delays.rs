//! This module measures the latency of one append call, and the time from an append call until watchers receive the
//! event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::event_service_client::EventServiceClient;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::appends::AppendCalls;
use crate::bench::Bench;
use crate::load::{self, EmptyCalls, RepeatedCall, join_all};
use crate::row::{Row, Target};
use crate::sample::{Sample, SharedSample};
use crate::stream::{PartialResponse, next_event, subscribe};
use crate::{Error, sqlite};

/// Target: the maximum ratio of the latency of an append call to the total latency of an empty call (GetServerInfo) and
/// a commit of the append call's SQL statements without a server.
const MAX_RATIO_OF_APPEND: f64 = 1.4;
/// Target: the maximum ratio of two 99th percentiles: the time from an append call until watchers receive the event,
/// and the latency of an empty call (GetServerInfo).
const MAX_RATIO_OF_EVENT: f64 = 25.0;

/// Number of operations in a block. The bench alternates between blocks of calls and blocks of commits without a
/// server, because the speed of the disk changes over time.
const CALLS_PER_BLOCK: usize = 200;
const BLOCKS: usize = 10;

const WATCHERS: usize = 100;
const WATCHERS_PER_CONNECTION: usize = 10;
const APPENDING_CONNECTIONS: usize = 8;
const EVENTS_PER_SECOND: usize = 1_000;
const SECONDS: usize = 8;

/// Measures the latency of an append call, and the time from an append call until watchers receive the event. Returns
/// one result row for each of the two figures. Fails if a call or a subscription fails, or if a temporary file can't be
/// written.
pub async fn measure_delays(bench: &Bench) -> Result<Vec<Row>, Error> {
    let single = SingleCallerTimes::measure(bench).await?;
    let append = Row::p50("one durable append by one caller; vs. an empty call and a raw commit", &single.append)
        .with_ceiling(single.empty.percentile(50) + single.commit.percentile(50))
        .with_target(Target::AtMost(MAX_RATIO_OF_APPEND));
    let event_times = measure_event_times(bench).await?;
    let event = Row::p99("1,000 events/s, from the call to 100 watchers; vs. the p99 of the empty call", &event_times)
        .with_ceiling(single.empty.percentile(99))
        .with_target(Target::AtMost(MAX_RATIO_OF_EVENT));
    Ok(vec![append, event])
}

/// The latencies of a single caller's calls on an otherwise idle server.
struct SingleCallerTimes {
    empty: Sample,
    append: Sample,
    /// The latencies of SQLite's commits of the SQL statements of an append call, without a server.
    commit: Sample,
}

impl SingleCallerTimes {
    async fn measure(bench: &Bench) -> Result<Self, Error> {
        let append_calls = AppendCalls::new(bench, 1).await?;
        let empty_calls = EmptyCalls(append_calls.connections.clone());
        let mut times = Self { empty: Sample::new()?, append: Sample::new()?, commit: Sample::new()? };
        let blocks = bench.scale_count(BLOCKS);
        bench.start_progress("one caller", blocks);
        for block in 0..blocks {
            times.measure_calls(&empty_calls, &append_calls).await?;
            times.measure_commits(bench, block).await?;
            bench.advance(1);
        }
        Ok(times)
    }

    async fn measure_calls(&mut self, empty_calls: &EmptyCalls, append_calls: &AppendCalls) -> Result<(), Status> {
        for _ in 0..CALLS_PER_BLOCK {
            let started = Instant::now();
            empty_calls.call(0).await?;
            let answered = Instant::now();
            append_calls.call(0).await?;
            self.append.record(answered.elapsed());
            self.empty.record(answered - started);
        }
        Ok(())
    }

    async fn measure_commits(&mut self, bench: &Bench, block: usize) -> Result<(), Error> {
        let path = bench.folder.path().join(format!("commits-{block}.db"));
        let payload = bench.payload.clone();
        let commits = move || sqlite::time_single_event_commits(&path, CALLS_PER_BLOCK, &payload);
        for time in tokio::task::spawn_blocking(commits).await?? {
            self.commit.record(time);
        }
        Ok(())
    }
}

/// Returns the times from the scheduled time of each append call until each of the 100 watchers received the event.
/// Fails if a call or a subscription fails.
async fn measure_event_times(bench: &Bench) -> Result<Sample, Error> {
    let run_id = bench.create_run().await?;
    let events = EVENTS_PER_SECOND * bench.scale_count(10 * SECONDS) / 10;
    let started = Instant::now();
    let times = SharedSample::new()?;
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS / WATCHERS_PER_CONNECTION {
        let channel = load::connect(&bench.url, load::WIDE_WINDOW).await?;
        for _ in 0..WATCHERS_PER_CONNECTION {
            watchers.spawn(record_events(subscribe(&channel, &run_id).await?, started, events, times.clone()));
        }
    }
    append_steadily(bench, &run_id, started, events).await?;
    join_all(watchers).await?;
    Ok(times.snapshot())
}

/// Reads `events` events and adds to `times` the time from each event's scheduled append call until the watcher
/// received the event. The message of an event contains the scheduled time, in nanoseconds after `started`. Fails if
/// the stream ends before the last event.
async fn record_events(
    mut stream: Streaming<PartialResponse>,
    started: Instant,
    events: usize,
    times: SharedSample,
) -> Result<(), Status> {
    let mut last_position = 0;
    let mut received = 0;
    while received < events {
        let event = next_event(&mut stream, &mut last_position).await?;
        // Skip run_created, the first event of the run. The server writes this event, so the message of run_created
        // contains no scheduled time.
        if let Ok(due) = event.message.parse() {
            times.record(started.elapsed().saturating_sub(Duration::from_nanos(due)));
            received += 1;
        }
    }
    Ok(())
}

/// Makes one append call each millisecond, without waiting for the responses to earlier calls. Fails if a call fails.
async fn append_steadily(bench: &Bench, run_id: &str, started: Instant, events: usize) -> Result<(), Error> {
    let connections: Arc<[Channel]> = load::open_connections(&bench.url, APPENDING_CONNECTIONS).await?.into();
    bench.start_progress("one event", events);
    let mut ticks = interval(Duration::from_secs(1) / EVENTS_PER_SECOND as u32);
    // If the bench falls behind the schedule, the bench makes the late calls immediately. Skipped calls would lower the
    // load and hide the delay.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    for number in 0..events {
        let due = ticks.tick().await.into_std();
        let message = due.saturating_duration_since(started).as_nanos().to_string();
        let event = v1::EventDraft { message, ..bench.event.clone() };
        let request =
            v1::AppendEventsRequest { run_id: run_id.to_owned(), events: vec![event], request_id: String::new() };
        let mut client = EventServiceClient::new(load::connection_for_caller(&connections, number));
        calls.spawn(async move { client.append_events(request).await.map(drop) });
        bench.advance(1);
    }
    join_all(calls).await?;
    Ok(())
}
