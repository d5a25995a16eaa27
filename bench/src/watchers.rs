//! AppendEvents while watchers receive every event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use runhub_api::v1;
use tokio::task::JoinSet;
use tonic::Status;

use crate::Error;
use crate::appends::Appending;
use crate::bench::Bench;
use crate::load::{self, Until, closed_loop, connect, join_all};
use crate::row::{Row, Target};
use crate::stream::{read, subscribe};

const WATCHERS_PER_CONNECTION: usize = 10;
const EVENTS: usize = 20_000;

/// Number of watchers, with the target: the smallest share of the rate without watchers.
const MIN_SHARE_WITH_WATCHERS: [(usize, f64); 2] = [(20, 0.5), (100, 0.3)];

/// Watchers that share the server with one that never reads.
const READING_WATCHERS: usize = 100;
const EVENTS_PER_CALL: usize = 100;
/// Target: the largest ratio of the time with a watcher that never reads to the time without it.
const MAX_RATIO_WITH_UNREAD_STREAM: f64 = 1.2;
/// A stream window that fills up soon if nobody reads, in bytes.
const NARROW_WINDOW: u32 = 64 * 1024;

/// The run_created event of each run comes before the events that the bench appends.
const SERVER_EVENTS: usize = 1;

/// Measures the rate of AppendEvents until all watchers have all events, with and without watchers.
pub async fn while_appending(bench: &Bench) -> Result<Vec<Row>, Error> {
    let calls_per_agent = bench.scaled(EVENTS).div_ceil(bench.agents);
    let events = calls_per_agent * bench.agents * bench.rounds();
    bench.start_progress("watchers", 2 * MIN_SHARE_WITH_WATCHERS.len() * bench.rounds());
    let mut rows = Vec::new();
    for (watchers, min_share) in MIN_SHARE_WITH_WATCHERS {
        let mut without = Duration::ZERO;
        let mut with = Duration::ZERO;
        for _ in 0..bench.rounds() {
            without += time_of_agents(bench, 0, calls_per_agent).await?;
            bench.advance(1);
            with += time_of_agents(bench, watchers, calls_per_agent).await?;
            bench.advance(1);
        }
        let agents = bench.agents;
        let name = format!("AppendEvents, {agents} in flight, until {watchers} watchers have all; of that without");
        let row = Row::new(name, "events/s", events as f64 / with.as_secs_f64());
        let row = row.compared_with(events as f64 / without.as_secs_f64());
        rows.push(row.with_target(Target::AtLeast(min_share)));
    }
    Ok(rows)
}

/// Returns the time until all agents have appended their events and all watchers have received them.
async fn time_of_agents(bench: &Bench, watchers: usize, calls_per_agent: usize) -> Result<Duration, Error> {
    let appending = Arc::new(Appending::new(bench, bench.agents).await?);
    let events = calls_per_agent * bench.agents + SERVER_EVENTS;
    let watching = start_watchers(bench, &appending.run_ids[0], watchers, events).await?;
    let started = Instant::now();
    closed_loop(&appending, Until::Calls(calls_per_agent), bench.agents).await?;
    join_all(watching).await?;
    Ok(started.elapsed())
}

/// Starts watchers of a run. Each ends when it has received `events` events.
async fn start_watchers(bench: &Bench, run_id: &str, count: usize, events: usize) -> Result<Watching, Error> {
    let mut watching = JoinSet::new();
    let mut connection = None;
    for number in 0..count {
        if number % WATCHERS_PER_CONNECTION == 0 {
            connection = Some(connect(&bench.url, load::WIDE_WINDOW).await?);
        }
        if let Some(connection) = &connection {
            watching.spawn(read(subscribe(connection, run_id).await?, events));
        }
    }
    Ok(watching)
}

type Watching = JoinSet<Result<(), Status>>;

/// Measures the time until 100 watchers have all events, with and without another watcher that never reads.
pub async fn with_unread_stream(bench: &Bench) -> Result<Vec<Row>, Error> {
    bench.start_progress("watchers", 2 * bench.rounds());
    let mut without = Duration::ZERO;
    let mut with = Duration::ZERO;
    for _ in 0..bench.rounds() {
        without += time_of_watchers(bench, false).await?;
        bench.advance(1);
        with += time_of_watchers(bench, true).await?;
        bench.advance(1);
    }
    let millis = |total: Duration| total.as_secs_f64() * 1_000.0 / bench.rounds() as f64;
    let events = HumanCount(bench.scaled(EVENTS) as u64);
    let name = format!("100 watchers beside one that never reads, until all have {events} events; of that without");
    let row = Row::new(name, "ms", millis(with)).compared_with(millis(without));
    Ok(vec![row.with_target(Target::AtMost(MAX_RATIO_WITH_UNREAD_STREAM))])
}

async fn time_of_watchers(bench: &Bench, has_unread_stream: bool) -> Result<Duration, Error> {
    let run_id = bench.create_run().await?;
    let events = bench.scaled(EVENTS);
    let unread_stream = match has_unread_stream {
        true => Some(subscribe(&connect(&bench.url, NARROW_WINDOW).await?, &run_id).await?),
        false => None,
    };
    let watching = start_watchers(bench, &run_id, READING_WATCHERS, events + SERVER_EVENTS).await?;
    let started = Instant::now();
    append(bench, &run_id, events).await?;
    join_all(watching).await?;
    let time = started.elapsed();
    drop(unread_stream);
    Ok(time)
}

async fn append(bench: &Bench, run_id: &str, count: usize) -> Result<(), Error> {
    let event = v1::EventDraft { source: "bench".to_owned(), kind: "bench".to_owned(), ..Default::default() };
    for _ in 0..count / EVENTS_PER_CALL {
        let events = vec![event.clone(); EVENTS_PER_CALL];
        let request = v1::AppendEventsRequest { run_id: run_id.to_owned(), events, ..Default::default() };
        bench.client.append_events(request).await?;
    }
    Ok(())
}
