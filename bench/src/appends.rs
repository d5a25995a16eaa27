//! This module measures the highest rate of AppendEvents that a fixed number of callers reaches.

use std::sync::Arc;

use runhub_api::v1;
use runhub_api::v1::event_service_client::EventServiceClient;
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::Error;
use crate::bench::Bench;
use crate::load::{self, EmptyCalls, Load, RepeatedCall, run_closed_loop};
use crate::row::{Row, Target};
use crate::sqlite;

/// The parameters of each result row: the number of calls in flight on each connection, and the target, which is the
/// minimum ratio of the AppendEvents rate to the rate of empty calls (GetServerInfo).
const MIN_SHARE_OF_EMPTY_CALL: [(usize, f64); 2] = [(1, 0.55), (4, 0.62)];

/// Number of runs to which the callers append events in the measurement of AppendEvents to several runs.
const RUNS: usize = 64;

pub const EVENTS_PER_BATCH: usize = 100;
pub const BATCH_CALLERS: usize = 16;
/// Number of batches of `EVENTS_PER_BATCH` events that SQLite inserts without a server in one round.
const BARE_BATCHES: usize = 400;
/// Target: the minimum ratio of the server's event rate to the rate of SQLite inserts without a server.
const MIN_SHARE_OF_BARE_INSERTS: f64 = 0.5;

/// The AppendEvents calls that a load test sends.
pub struct AppendCalls {
    pub connections: Vec<Channel>,
    pub run_ids: Vec<String>,
    pub events: Vec<v1::EventDraft>,
    /// The function that returns the request_id of the next call. An empty string means a call without a request_id.
    pub request_id: fn() -> String,
}

impl AppendCalls {
    /// Opens new connections and returns calls that append one event to a new run, without request_ids. Fails if a
    /// connection or the creation of the run fails.
    pub async fn new(bench: &Bench, connections: usize) -> Result<Self, Error> {
        Ok(Self {
            connections: load::open_connections(&bench.url, connections).await?,
            run_ids: vec![bench.create_run().await?],
            events: vec![bench.event.clone()],
            request_id: String::new,
        })
    }

    /// Opens new connections and returns calls that append `EVENTS_PER_BATCH` events to a new run. Fails if a connection
    /// or the creation of the run fails.
    pub async fn new_batches(bench: &Bench) -> Result<Arc<Self>, Error> {
        let calls = Self::new(bench, BATCH_CALLERS).await?;
        Ok(Arc::new(Self { events: vec![bench.event.clone(); EVENTS_PER_BATCH], ..calls }))
    }

    /// Returns a copy of these AppendEvents calls with other runs and request_ids.
    fn copy_with(&self, run_ids: Vec<String>, request_id: fn() -> String) -> Arc<Self> {
        Arc::new(Self { connections: self.connections.clone(), run_ids, events: self.events.clone(), request_id })
    }
}

impl RepeatedCall for AppendCalls {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let request = v1::AppendEventsRequest {
            run_id: self.run_ids[caller % self.run_ids.len()].clone(),
            events: self.events.clone(),
            request_id: (self.request_id)(),
        };
        let connection = load::connection_for_caller(&self.connections, caller);
        EventServiceClient::new(connection).append_events(request).await.map(drop)
    }
}

/// Measures the rate of AppendEvents with one event per call, and returns one result row for each number of calls in
/// flight. Fails if a call fails.
pub async fn measure_single_appends(bench: &Bench) -> Result<Vec<Row>, Error> {
    let append_calls = Arc::new(AppendCalls::new(bench, bench.agents).await?);
    let empty_calls = Arc::new(EmptyCalls(append_calls.connections.clone()));
    bench.start_progress("appends", 2 * MIN_SHARE_OF_EMPTY_CALL.len() * bench.short_rounds());
    let mut rows = Vec::new();
    for (calls_per_connection, min_share) in MIN_SHARE_OF_EMPTY_CALL {
        let callers = calls_per_connection * bench.agents;
        let (empty, appends) = bench.alternate(&empty_calls, &append_calls, callers).await?;
        let name = format!("AppendEvents, one event per call, {callers} in flight; vs. the empty call");
        let row = Row::rate(name, "/s", &appends).with_ceiling(empty.calls_per_second());
        rows.push(row.with_target(Target::AtLeast(min_share)));
    }
    Ok(rows)
}

/// Measures the rates of AppendEvents to 64 runs and of AppendEvents with request_ids. Returns one result row for each
/// measured rate. Each result row compares its rate with the rate of AppendEvents to one run without request_ids. The
/// result rows have no target. Fails if a call fails.
pub async fn measure_append_variants(bench: &Bench) -> Result<Vec<Row>, Error> {
    let callers = bench.agents;
    let plain = Arc::new(AppendCalls::new(bench, callers).await?);
    let mut run_ids = Vec::new();
    for _ in 0..RUNS {
        run_ids.push(bench.create_run().await?);
    }
    let variants = [
        ("to 64 runs; vs. one run", plain.copy_with(run_ids, String::new)),
        ("with UUIDv7 request_ids; vs. no request_ids", plain.copy_with(plain.run_ids.clone(), generate_ascending_id)),
        ("with random request_ids; vs. no request_ids", plain.copy_with(plain.run_ids.clone(), generate_random_id)),
    ];
    bench.start_progress("appends", 2 * variants.len() * bench.short_rounds());
    let mut rows = Vec::new();
    for (name, variant) in variants {
        let (ceiling, measured) = bench.alternate(&plain, &variant, callers).await?;
        let name = format!("AppendEvents, {callers} in flight, {name}");
        rows.push(Row::rate(name, "/s", &measured).with_ceiling(ceiling.calls_per_second()));
    }
    Ok(rows)
}

// clippy.toml disallows random ids, because tests must be reproducible. No test depends on the ids of the bench, so the
// bench may use random ids.
#[allow(clippy::disallowed_methods)]
fn generate_ascending_id() -> String {
    Uuid::now_v7().to_string()
}

#[allow(clippy::disallowed_methods)]
fn generate_random_id() -> String {
    Uuid::new_v4().to_string()
}

/// Measures the rate of AppendEvents with 100 events per call, and returns one result row. Fails if a call or an insert
/// without a server fails.
pub async fn measure_batches(bench: &Bench) -> Result<Vec<Row>, Error> {
    let append_calls = AppendCalls::new_batches(bench).await?;
    bench.start_progress("batches", 2 * bench.short_rounds());
    let mut measured = Load::new()?;
    let mut bare_per_second = 0.0;
    for round in 0..bench.short_rounds() {
        measured.extend(run_closed_loop(&append_calls, bench.short_round(), BATCH_CALLERS).await?);
        bench.advance(1);
        bare_per_second += measure_bare_inserts(bench, round).await? / bench.short_rounds() as f64;
        bench.advance(1);
    }
    let name = "AppendEvents, 100 events per call, 16 callers; vs. inserts by SQLite alone";
    let row =
        Row::new(name, "events/s", measured.calls_per_second() * EVENTS_PER_BATCH as f64).with_times(&measured.times);
    Ok(vec![row.with_ceiling(bare_per_second).with_target(Target::AtLeast(MIN_SHARE_OF_BARE_INSERTS))])
}

async fn measure_bare_inserts(bench: &Bench, round: usize) -> Result<f64, Error> {
    let path = bench.folder.path().join(format!("bare-{round}.db"));
    let batches = bench.scale_count(BARE_BATCHES);
    let payload = bench.payload.clone();
    let inserts = move || sqlite::measure_bare_inserts(&path, batches, EVENTS_PER_BATCH, &payload);
    tokio::task::spawn_blocking(inserts).await?
}
