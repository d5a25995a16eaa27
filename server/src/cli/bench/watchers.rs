//! Watchers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runhub_api::v1;
use tokio::task::JoinSet;
use tonic::Status;

use super::Bench;
use super::appends::Appending;
use super::load::{self, Until, closed_loop, connect, joined};
use super::row::{Row, Target, counted};
use super::sample::Sample;
use super::stream::{read, subscribe};
use crate::cli::Failure;

const WATCHERS: usize = 100;
const PER_CONNECTION: usize = 10;
const EVENTS: usize = 20_000;
const EVENTS_PER_CALL: usize = 100;
/// The design's: at most so many times the time without it.
const MOST: f64 = 1.2;
/// So small that it is soon full when nobody reads.
const NARROW: u32 = 64 * 1024;

/// The design's, of the writer's rate without them.
const LEAST_BESIDE: [(usize, f64); 2] = [(20, 0.5), (100, 0.3)];

/// How many events a second a writer appends when so many watchers get every one of them.
pub async fn beside_a_writer(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let calls = bench.times(20_000).div_ceil(bench.agents);
    bench.begin("watchers", 2 * LEAST_BESIDE.len() * bench.turns());
    let mut rows = Vec::new();
    for (watchers, least) in LEAST_BESIDE {
        let (mut alone, mut beside) = (Sample::default(), Sample::default());
        for _ in 0..bench.turns() {
            alone.add(until_all_have_what_agents_append(bench, 0, calls).await?);
            bench.progress.inc(1);
            beside.add(until_all_have_what_agents_append(bench, watchers, calls).await?);
            bench.progress.inc(1);
        }
        let rate = |sample: &Sample| (calls * bench.agents) as f64 * 1_000.0 / sample.mean();
        let name =
            format!("AppendEvents, {} in flight, until {watchers} watchers have all; of that without", bench.agents);
        rows.push(Row::new(name, "events/s", rate(&beside)).of(rate(&alone)).judged_by(Target::AtLeast(least)));
    }
    Ok(rows)
}

async fn until_all_have_what_agents_append(bench: &Bench, watchers: usize, calls: usize) -> Result<Duration, Failure> {
    let appending = Arc::new(Appending::new(bench, bench.agents).await?);
    // And the run's first event.
    let watching = watch(bench, &appending.run_ids[0], watchers, calls * bench.agents + 1).await?;
    let begun = Instant::now();
    closed_loop(&appending, Until::Calls(calls), bench.agents).await?;
    until_all_are_done(watching).await?;
    Ok(begun.elapsed())
}

/// Watchers of a run, each until it has so many events.
async fn watch(bench: &Bench, run_id: &str, count: usize, events: usize) -> Result<Watching, Failure> {
    let (mut watchers, mut channel) = (JoinSet::new(), None);
    for number in 0..count {
        if number % PER_CONNECTION == 0 {
            channel = Some(connect(&bench.url, load::WIDE).await?);
        }
        if let Some(channel) = &channel {
            watchers.spawn(read(subscribe(channel, run_id).await?, events));
        }
    }
    Ok(watchers)
}

type Watching = JoinSet<Result<(), Status>>;

async fn until_all_are_done(mut watching: Watching) -> Result<(), Failure> {
    while let Some(done) = watching.join_next().await {
        joined(done)?;
    }
    Ok(())
}

/// How long it takes until a hundred watchers have all events beside one that never reads, and without it.
pub async fn beside_one_that_never_reads(bench: &Bench) -> Result<Vec<Row>, Failure> {
    bench.begin("watchers", 2 * bench.turns());
    let (mut with, mut without) = (Sample::default(), Sample::default());
    for _ in 0..bench.turns() {
        without.add(until_all_have_all(bench, false).await?);
        bench.progress.inc(1);
        with.add(until_all_have_all(bench, true).await?);
        bench.progress.inc(1);
    }
    let events = counted(bench.times(EVENTS));
    let name = format!("100 watchers beside one that never reads, until all have {events} events; of that without");
    Ok(vec![Row::new(name, "ms", with.mean()).of(without.mean()).judged_by(Target::AtMost(MOST))])
}

async fn until_all_have_all(bench: &Bench, with_one_that_never_reads: bool) -> Result<Duration, Failure> {
    let (run_id, events) = (bench.new_run().await?, bench.times(EVENTS));
    let never_reads = match with_one_that_never_reads {
        true => Some(subscribe(&connect(&bench.url, NARROW).await?, &run_id).await?),
        false => None,
    };
    // And the run's first event.
    let watching = watch(bench, &run_id, WATCHERS, events + 1).await?;
    let begun = Instant::now();
    append(bench, &run_id, events).await?;
    until_all_are_done(watching).await?;
    let took = begun.elapsed();
    drop(never_reads);
    Ok(took)
}

async fn append(bench: &Bench, run_id: &str, events: usize) -> Result<(), Failure> {
    let event = v1::EventDraft { source: "bench".to_owned(), kind: "bench".to_owned(), ..Default::default() };
    for _ in 0..events / EVENTS_PER_CALL {
        let events = vec![event.clone(); EVENTS_PER_CALL];
        let request = v1::AppendEventsRequest { run_id: run_id.to_owned(), events, ..Default::default() };
        bench.client.append_events(request).await?;
    }
    Ok(())
}
