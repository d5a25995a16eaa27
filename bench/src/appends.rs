//! AppendEvents at the highest rate that a number of callers reach.

use std::sync::Arc;

use runhub_api::v1;
use runhub_api::v1::event_service_client::EventServiceClient;
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::Error;
use crate::bench::Bench;
use crate::load::{self, EmptyCalls, Load, Work, closed_loop};
use crate::row::{Row, Target};
use crate::sqlite;

/// Calls in flight on each connection, with the target: the smallest share of the empty call's rate.
const MIN_SHARE_OF_EMPTY_CALL: [(usize, f64); 2] = [(1, 0.45), (4, 0.6)];

/// Number of runs in the variant that appends to many runs.
const RUNS: usize = 64;

const EVENTS_PER_BATCH: usize = 100;
const BATCH_CALLERS: usize = 16;
/// Batches that SQLite inserts by itself in one round.
const BARE_BATCHES: usize = 1_000;
/// Target: the smallest share of the rate of SQLite's own inserts.
const MIN_SHARE_OF_BARE_INSERTS: f64 = 0.5;

/// Callers of AppendEvents.
pub struct Appending {
    pub connections: Vec<Channel>,
    pub run_ids: Vec<String>,
    pub events: Vec<v1::EventDraft>,
    /// Returns the request_id of a call; empty: none.
    pub request_id: fn() -> String,
}

impl Appending {
    /// Returns callers on new connections that append one event per call to one new run, without request_ids.
    pub async fn new(bench: &Bench, connections: usize) -> Result<Self, Error> {
        Ok(Self {
            connections: load::connections(&bench.url, connections).await?,
            run_ids: vec![bench.create_run().await?],
            events: vec![bench.event.clone()],
            request_id: String::new,
        })
    }

    /// Returns callers that differ from these in their runs and request_ids only.
    fn variant(&self, run_ids: Vec<String>, request_id: fn() -> String) -> Arc<Self> {
        Arc::new(Self { connections: self.connections.clone(), run_ids, events: self.events.clone(), request_id })
    }
}

impl Work for Appending {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let request = v1::AppendEventsRequest {
            run_id: self.run_ids[caller % self.run_ids.len()].clone(),
            events: self.events.clone(),
            request_id: (self.request_id)(),
        };
        let connection = load::connection_of(&self.connections, caller);
        EventServiceClient::new(connection).append_events(request).await.map(drop)
    }
}

/// Measures AppendEvents with one event per call.
pub async fn one_event_per_call(bench: &Bench) -> Result<Vec<Row>, Error> {
    let appending = Arc::new(Appending::new(bench, bench.agents).await?);
    let empty_calls = Arc::new(EmptyCalls(appending.connections.clone()));
    bench.start_progress("appends", 2 * MIN_SHARE_OF_EMPTY_CALL.len() * bench.rounds());
    let mut rows = Vec::new();
    for (calls_per_connection, min_share) in MIN_SHARE_OF_EMPTY_CALL {
        let callers = calls_per_connection * bench.agents;
        let (empty, appends) = bench.alternate(&empty_calls, &appending, callers).await?;
        let name = format!("AppendEvents, one event a call, {callers} in flight; of the empty call");
        let row = Row::rate(name, "/s", &appends).compared_with(empty.per_second());
        rows.push(row.with_target(Target::AtLeast(min_share)));
    }
    Ok(rows)
}

/// Compares AppendEvents to many runs, and with request_ids, with AppendEvents to one run without them. No targets.
pub async fn variants(bench: &Bench) -> Result<Vec<Row>, Error> {
    let callers = bench.agents;
    let plain = Arc::new(Appending::new(bench, callers).await?);
    let mut run_ids = Vec::new();
    for _ in 0..RUNS {
        run_ids.push(bench.create_run().await?);
    }
    let variants = [
        ("to 64 runs", plain.variant(run_ids, String::new)),
        ("with UUIDv7 request_ids", plain.variant(plain.run_ids.clone(), ascending_id)),
        ("with random request_ids", plain.variant(plain.run_ids.clone(), random_id)),
    ];
    bench.start_progress("appends", 2 * variants.len() * bench.rounds());
    let mut rows = Vec::new();
    for (name, variant) in variants {
        let (ceiling, measured) = bench.alternate(&plain, &variant, callers).await?;
        let name = format!("AppendEvents, {callers} in flight {name}; of that without");
        rows.push(Row::rate(name, "/s", &measured).compared_with(ceiling.per_second()));
    }
    Ok(rows)
}

// The lint keeps time and randomness out of what tests depend on. No test depends on these ids.
#[allow(clippy::disallowed_methods)]
fn ascending_id() -> String {
    Uuid::now_v7().to_string()
}

#[allow(clippy::disallowed_methods)]
fn random_id() -> String {
    Uuid::new_v4().to_string()
}

/// Measures AppendEvents with 100 events per call.
pub async fn batches(bench: &Bench) -> Result<Vec<Row>, Error> {
    let mut appending = Appending::new(bench, BATCH_CALLERS).await?;
    appending.events = vec![bench.event.clone(); EVENTS_PER_BATCH];
    let appending = Arc::new(appending);
    bench.start_progress("batches", 2 * bench.rounds());
    let mut measured = Load::new()?;
    let mut bare_per_second = 0.0;
    for round in 0..bench.rounds() {
        measured.extend(closed_loop(&appending, bench.round_end(), BATCH_CALLERS).await?);
        bench.advance(1);
        bare_per_second += bare_inserts_per_second(bench, round).await? / bench.rounds() as f64;
        bench.advance(1);
    }
    let name = "AppendEvents, 100 a call, 16 callers; of SQLite's own inserts";
    let row = Row::new(name, "events/s", measured.per_second() * EVENTS_PER_BATCH as f64).with_times(&measured.times);
    Ok(vec![row.compared_with(bare_per_second).with_target(Target::AtLeast(MIN_SHARE_OF_BARE_INSERTS))])
}

async fn bare_inserts_per_second(bench: &Bench, round: usize) -> Result<f64, Error> {
    let path = bench.folder.path().join(format!("bare-{round}.db"));
    let batches = bench.scaled(BARE_BATCHES);
    let payload = bench.payload.clone();
    let inserts = move || sqlite::bare_inserts_per_second(&path, batches, EVENTS_PER_BATCH, &payload);
    tokio::task::spawn_blocking(inserts).await?
}
