//! The time of one call, and of one event on its way to a watcher.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::event_service_client::EventServiceClient;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::appends::Appending;
use crate::bench::Bench;
use crate::load::{self, EmptyCalls, Work, join_all};
use crate::row::{Row, Target};
use crate::sample::{Sample, SharedSample};
use crate::stream::{PartialResponse, next_event, subscribe};
use crate::{Error, sqlite};

/// Target: the largest ratio of an append to an empty call and a commit of the same statements together.
const MAX_RATIO_OF_APPEND: f64 = 1.4;
/// Target: the largest ratio of an event's p99 to the empty call's p99.
const MAX_RATIO_OF_EVENT: f64 = 25.0;

/// Number of calls and then of raw commits in a block: the disk's speed changes over time, so both are measured often.
const CALLS_PER_BLOCK: usize = 200;
const BLOCKS: usize = 10;

const WATCHERS: usize = 100;
const WATCHERS_PER_CONNECTION: usize = 10;
const APPENDING_CONNECTIONS: usize = 8;
const EVENTS_PER_SECOND: usize = 1_000;
const SECONDS: usize = 8;

/// Measures one append and one event. Both are compared with the empty call of a single caller.
pub async fn rows(bench: &Bench) -> Result<Vec<Row>, Error> {
    let single = SingleCaller::measure(bench).await?;
    let append = Row::p50("one caller, one durable append; of an empty call and a raw commit", &single.append)
        .compared_with(single.empty.percentile(50) + single.commit.percentile(50))
        .with_target(Target::AtMost(MAX_RATIO_OF_APPEND));
    let event_times = event_times(bench).await?;
    let event = Row::p99("1,000 events/s, call → 100 watchers; of the empty call's p99", &event_times)
        .compared_with(single.empty.percentile(99))
        .with_target(Target::AtMost(MAX_RATIO_OF_EVENT));
    Ok(vec![append, event])
}

/// The times of a caller that has the server to itself.
struct SingleCaller {
    empty: Sample,
    append: Sample,
    /// Commits of the same statements by SQLite itself.
    commit: Sample,
}

impl SingleCaller {
    async fn measure(bench: &Bench) -> Result<Self, Error> {
        let appending = Appending::new(bench, 1).await?;
        let empty_calls = EmptyCalls(appending.connections.clone());
        let mut times = Self { empty: Sample::new()?, append: Sample::new()?, commit: Sample::new()? };
        let blocks = bench.scaled(BLOCKS);
        bench.start_progress("one caller", blocks);
        for block in 0..blocks {
            times.measure_calls(&empty_calls, &appending).await?;
            times.measure_commits(bench, block).await?;
            bench.advance(1);
        }
        Ok(times)
    }

    async fn measure_calls(&mut self, empty_calls: &EmptyCalls, appending: &Appending) -> Result<(), Status> {
        for _ in 0..CALLS_PER_BLOCK {
            let started = Instant::now();
            empty_calls.call(0).await?;
            let answered = Instant::now();
            appending.call(0).await?;
            self.append.record(answered.elapsed());
            self.empty.record(answered - started);
        }
        Ok(())
    }

    async fn measure_commits(&mut self, bench: &Bench, block: usize) -> Result<(), Error> {
        let path = bench.folder.path().join(format!("commits-{block}.db"));
        let payload = bench.payload.clone();
        let commits = move || sqlite::commits_of_one_event(&path, CALLS_PER_BLOCK, &payload);
        for time in tokio::task::spawn_blocking(commits).await?? {
            self.commit.record(time);
        }
        Ok(())
    }
}

/// Returns the times from when an event's call was due until each of 100 watchers received the event.
async fn event_times(bench: &Bench) -> Result<Sample, Error> {
    let run_id = bench.create_run().await?;
    let events = EVENTS_PER_SECOND * bench.scaled(10 * SECONDS) / 10;
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

/// Reads `events` events. The message of each is the time when its call was due, in nanoseconds since `started`.
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
        // The server writes the run's first event, run_created, with a message of its own.
        if let Ok(due) = event.message.parse() {
            times.record(started.elapsed().saturating_sub(Duration::from_nanos(due)));
            received += 1;
        }
    }
    Ok(())
}

/// Makes one call each millisecond, without waiting for the answers of the calls before.
async fn append_steadily(bench: &Bench, run_id: &str, started: Instant, events: usize) -> Result<(), Error> {
    let connections: Arc<[Channel]> = load::connections(&bench.url, APPENDING_CONNECTIONS).await?.into();
    bench.start_progress("one event", events);
    let mut ticks = interval(Duration::from_secs(1) / EVENTS_PER_SECOND as u32);
    // A late call must count as delay and not lower the load.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    for number in 0..events {
        let due = ticks.tick().await.into_std();
        let message = due.saturating_duration_since(started).as_nanos().to_string();
        let event = v1::EventDraft { message, ..bench.event.clone() };
        let request =
            v1::AppendEventsRequest { run_id: run_id.to_owned(), events: vec![event], request_id: String::new() };
        let mut client = EventServiceClient::new(load::connection_of(&connections, number));
        calls.spawn(async move { client.append_events(request).await.map(drop) });
        bench.advance(1);
    }
    join_all(calls).await?;
    Ok(())
}
