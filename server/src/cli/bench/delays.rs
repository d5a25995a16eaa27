//! What one call takes, and one event on its way to a watcher.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::event_service_client::EventServiceClient;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::Bench;
use super::appends::{Appending, in_background};
use super::load::{self, EmptyCalls, Work, joined};
use super::row::{Row, Target};
use super::sample::Sample;
use super::stream::{Brief, next_event, subscribe};
use crate::cli::Failure;
use crate::store::raw;

/// The design's: of the empty call and one commit of the same statements together.
const MOST_OF_ONE_APPEND: f64 = 1.4;
/// The design's: of the empty call's p99.
const MOST_OF_WATCHING: f64 = 25.0;

/// How many calls are made one after the other between two looks at the disk.
const BLOCK: usize = 200;
const BLOCKS: usize = 10;

const WATCHERS: usize = 100;
const PER_CONNECTION: usize = 10;
/// In a second.
const EVENTS: usize = 1_000;
const SECONDS: usize = 8;

/// The rows, both of them compared with the empty call of one caller, in turns with its appends.
pub async fn all(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let alone = Alone::measure(bench).await?;
    let one_append = Row::p50("one caller, one durable append; of an empty call and a raw commit", &alone.append)
        .of(alone.empty.percentile(50) + alone.commit.percentile(50))
        .judged_by(Target::AtMost(MOST_OF_ONE_APPEND));
    let watched = to_watchers(bench).await?;
    let watching = Row::p99("1,000 events/s, call → 100 watchers; of the empty call's p99", &watched)
        .of(alone.empty.percentile(99))
        .judged_by(Target::AtMost(MOST_OF_WATCHING));
    Ok(vec![one_append, watching])
}

/// What one caller finds when nobody else is there.
#[derive(Default)]
struct Alone {
    empty: Sample,
    append: Sample,
    commit: Sample,
}

impl Alone {
    async fn measure(bench: &Bench) -> Result<Self, Failure> {
        let (mut alone, appending) = (Self::default(), Appending::new(bench, 1).await?);
        let (empty_calls, blocks) = (EmptyCalls(appending.connections.clone()), bench.times(BLOCKS));
        bench.begin("one caller", blocks);
        for block in 0..blocks {
            for _ in 0..BLOCK {
                let begun = Instant::now();
                empty_calls.call(0).await.map_err(runhub_client::Error::from)?;
                let called = Instant::now();
                appending.call(0).await.map_err(runhub_client::Error::from)?;
                alone.append.add(called.elapsed());
                alone.empty.add(called - begun);
            }
            let path = bench.folder.path().join(format!("commits-{block}.db"));
            let payload = bench.payload.clone();
            let commits = in_background(move || raw::commits_of_one_event(&path, BLOCK, &payload)).await?;
            commits.into_iter().for_each(|took| alone.commit.add(took));
            bench.progress.inc(1);
        }
        Ok(alone)
    }
}

/// How long events take from when their call is due to each of a hundred watchers: more than from their commit.
async fn to_watchers(bench: &Bench) -> Result<Sample, Failure> {
    let (run_id, events) = (bench.new_run().await?, EVENTS * bench.times(10 * SECONDS) / 10);
    let (begun, mut watchers) = (Instant::now(), JoinSet::new());
    for _ in 0..WATCHERS / PER_CONNECTION {
        let channel = load::connect(&bench.url, load::WIDE).await?;
        for _ in 0..PER_CONNECTION {
            watchers.spawn(delays(subscribe(&channel, &run_id).await?, begun, events));
        }
    }
    append_steadily(bench, &run_id, begun, events).await?;
    let mut sample = Sample::default();
    while let Some(done) = watchers.join_next().await {
        sample.extend(joined(done)?);
    }
    Ok(sample)
}

/// An event brings the time when it was due as its message, in nanoseconds since `begun`.
async fn delays(mut stream: Streaming<Brief>, begun: Instant, events: usize) -> Result<Sample, Status> {
    let (mut sample, mut last) = (Sample::default(), 0);
    while sample.len() < events {
        let event = next_event(&mut stream, &mut last).await?;
        // The run's first event is the server's own.
        if let Ok(due) = event.message.parse() {
            sample.add(begun.elapsed().saturating_sub(Duration::from_nanos(due)));
        }
    }
    Ok(sample)
}

/// Whether the calls before are answered or not.
async fn append_steadily(bench: &Bench, run_id: &str, begun: Instant, events: usize) -> Result<(), Failure> {
    let connections: Arc<[Channel]> = load::connections(&bench.url, 8).await?.into();
    bench.begin("one event", events);
    let mut ticks = interval(Duration::from_secs(1) / EVENTS as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    for number in 0..events {
        // A caller who is late counts as delay, not as less load.
        let due = ticks.tick().await.into_std();
        let mut client = EventServiceClient::new(load::of_caller(&connections, number));
        let message = due.saturating_duration_since(begun).as_nanos().to_string();
        let event = v1::EventDraft { message, ..bench.event.clone() };
        let request =
            v1::AppendEventsRequest { run_id: run_id.to_owned(), events: vec![event], request_id: String::new() };
        calls.spawn(async move { client.append_events(request).await.map(drop) });
        bench.progress.inc(1);
    }
    while let Some(done) = calls.join_next().await {
        joined(done)?;
    }
    Ok(())
}
