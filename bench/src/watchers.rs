//! This module measures the rate of AppendEvents while watchers receive every event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use runhub_api::v1;
use tokio::task::JoinSet;
use tonic::Status;

use crate::Error;
use crate::appends::AppendCalls;
use crate::bench::Bench;
use crate::load::{self, StopCondition, connect, join_all, run_closed_loop};
use crate::row::{Row, Target};
use crate::stream::{read_events, subscribe};

const WATCHERS_PER_CONNECTION: usize = 10;
const EVENTS: usize = 20_000;

/// The parameters of each result row: the number of watchers, and the target, which is the minimum ratio of the rate
/// with watchers to the rate without watchers.
const MIN_SHARE_WITH_WATCHERS: [(usize, f64); 2] = [(20, 0.5), (100, 0.3)];

/// Number of watchers that read every event while another watcher never reads.
const READING_WATCHERS: usize = 100;
const EVENTS_PER_CALL: usize = 100;
/// Target: the maximum ratio of the delivery time with a watcher that never reads to the delivery time without that
/// watcher. The delivery time is the time from the first append call until `READING_WATCHERS` watchers have received
/// all events.
const MAX_RATIO_WITH_UNREAD_STREAM: f64 = 1.2;
/// The flow-control window of the stream that the bench never reads, in bytes. A small window fills up early in the
/// measurement.
const NARROW_WINDOW: u32 = 64 * 1024;

/// Number of events that the server writes to a run before the bench appends events: the event run_created.
const SERVER_EVENTS: usize = 1;

/// Measures the rate of AppendEvents with and without watchers, and returns one result row for each number of watchers.
/// Once every watcher has received every event, the measured time ends. Fails if a call or a subscription fails.
pub async fn measure_appends_with_watchers(bench: &Bench) -> Result<Vec<Row>, Error> {
    let calls_per_agent = bench.scale_count(EVENTS).div_ceil(bench.agents);
    let events = calls_per_agent * bench.agents * bench.rounds();
    bench.start_progress("watchers", 2 * MIN_SHARE_WITH_WATCHERS.len() * bench.rounds());
    let mut rows = Vec::new();
    for (watchers, min_share) in MIN_SHARE_WITH_WATCHERS {
        let mut without = Duration::ZERO;
        let mut with = Duration::ZERO;
        for _ in 0..bench.rounds() {
            without += measure_append_time(bench, 0, calls_per_agent).await?;
            bench.advance(1);
            with += measure_append_time(bench, watchers, calls_per_agent).await?;
            bench.advance(1);
        }
        let agents = bench.agents;
        let name =
            format!("AppendEvents, {agents} in flight, until {watchers} watchers have all events; vs. no watchers");
        let row = Row::new(name, "events/s", events as f64 / with.as_secs_f64());
        let row = row.with_ceiling(events as f64 / without.as_secs_f64());
        rows.push(row.with_target(Target::AtLeast(min_share)));
    }
    Ok(rows)
}

/// Returns the time from the first append call until all agents have appended their events and all watchers have
/// received the events. Fails if a call or a subscription fails.
async fn measure_append_time(bench: &Bench, watchers: usize, calls_per_agent: usize) -> Result<Duration, Error> {
    let append_calls = Arc::new(AppendCalls::new(bench, bench.agents).await?);
    let events = calls_per_agent * bench.agents + SERVER_EVENTS;
    let watching = start_watchers(bench, &append_calls.run_ids[0], watchers, events).await?;
    let started = Instant::now();
    run_closed_loop(&append_calls, StopCondition::Calls(calls_per_agent), bench.agents).await?;
    join_all(watching).await?;
    Ok(started.elapsed())
}

/// Starts `count` watchers of a run and returns the Tokio tasks of the watchers. A watcher ends after the watcher has
/// received `events` events. Fails if a connection or a subscription fails.
async fn start_watchers(bench: &Bench, run_id: &str, count: usize, events: usize) -> Result<WatcherTasks, Error> {
    let mut watching = JoinSet::new();
    let mut connection = None;
    for number in 0..count {
        if number % WATCHERS_PER_CONNECTION == 0 {
            connection = Some(connect(&bench.url, load::WIDE_WINDOW).await?);
        }
        if let Some(connection) = &connection {
            watching.spawn(read_events(subscribe(connection, run_id).await?, events));
        }
    }
    Ok(watching)
}

type WatcherTasks = JoinSet<Result<(), Status>>;

/// Measures the time from the first append call until 100 watchers have received all events, with and without another
/// watcher that never reads. Returns one result row. Fails if a call or a subscription fails.
pub async fn measure_watchers_with_unread_stream(bench: &Bench) -> Result<Vec<Row>, Error> {
    bench.start_progress("watchers", 2 * bench.rounds());
    let mut without = Duration::ZERO;
    let mut with = Duration::ZERO;
    for _ in 0..bench.rounds() {
        without += measure_delivery_time(bench, false).await?;
        bench.advance(1);
        with += measure_delivery_time(bench, true).await?;
        bench.advance(1);
    }
    let millis = |total: Duration| total.as_secs_f64() * 1_000.0 / bench.rounds() as f64;
    let events = HumanCount(bench.scale_count(EVENTS) as u64);
    let name = format!("100 watchers beside an unread stream, until all have {events} events; vs. no unread stream");
    let row = Row::new(name, "ms", millis(with)).with_ceiling(millis(without));
    Ok(vec![row.with_target(Target::AtMost(MAX_RATIO_WITH_UNREAD_STREAM))])
}

async fn measure_delivery_time(bench: &Bench, has_unread_stream: bool) -> Result<Duration, Error> {
    let run_id = bench.create_run().await?;
    let events = bench.scale_count(EVENTS);
    let unread_stream = match has_unread_stream {
        true => Some(subscribe(&connect(&bench.url, NARROW_WINDOW).await?, &run_id).await?),
        false => None,
    };
    let watching = start_watchers(bench, &run_id, READING_WATCHERS, events + SERVER_EVENTS).await?;
    let started = Instant::now();
    append_events(bench, &run_id, events).await?;
    join_all(watching).await?;
    let time = started.elapsed();
    drop(unread_stream);
    Ok(time)
}

async fn append_events(bench: &Bench, run_id: &str, count: usize) -> Result<(), Error> {
    let event = v1::EventDraft { source: "bench".to_owned(), kind: "bench".to_owned(), ..Default::default() };
    for _ in 0..count / EVENTS_PER_CALL {
        let events = vec![event.clone(); EVENTS_PER_CALL];
        let request = v1::AppendEventsRequest { run_id: run_id.to_owned(), events, ..Default::default() };
        bench.client.append_events(request).await?;
    }
    Ok(())
}
