//! Appends: as many as it takes.

use std::sync::Arc;

use runhub_api::v1;
use runhub_api::v1::event_service_client::EventServiceClient;
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use super::Bench;
use super::load::{self, EmptyCalls, Load, Work, closed_loop};
use super::row::{Row, Target};
use crate::cli::Failure;
use crate::store::raw;

/// The design's, of the empty call's rate: one call in flight on each connection, and four.
const LEAST_OF_EMPTY_CALL: [(usize, f64); 2] = [(1, 0.45), (4, 0.6)];

/// Runs, where there is more than one.
const RUNS: usize = 64;

/// The batches.
const BATCH: usize = 100;
const BATCH_CALLERS: usize = 16;
/// The design's, of SQLite's own inserts.
const LEAST_OF_BARE_INSERTS: f64 = 0.5;

/// Agents that append.
pub struct Appending {
    pub connections: Vec<Channel>,
    pub run_ids: Vec<String>,
    pub events: Vec<v1::EventDraft>,
    pub request_id: fn() -> String,
}

impl Appending {
    /// With one event a call and without request_ids, on connections of their own, all to one run.
    pub async fn new(bench: &Bench, connections: usize) -> Result<Self, Failure> {
        Ok(Self {
            connections: load::connections(&bench.url, connections).await?,
            run_ids: vec![bench.new_run().await?],
            events: vec![bench.event.clone()],
            request_id: String::new,
        })
    }
}

impl Work for Appending {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let request = v1::AppendEventsRequest {
            run_id: self.run_ids[caller % self.run_ids.len()].clone(),
            events: self.events.clone(),
            request_id: (self.request_id)(),
        };
        let connection = load::of_caller(&self.connections, caller);
        EventServiceClient::new(connection).append_events(request).await.map(drop)
    }
}

/// One event a call.
pub async fn one_a_call(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let appending = Arc::new(Appending::new(bench, bench.agents).await?);
    let empty_calls = Arc::new(EmptyCalls(appending.connections.clone()));
    bench.begin("appends", 2 * LEAST_OF_EMPTY_CALL.len() * bench.turns());
    let mut rows = Vec::new();
    for (on_each, least) in LEAST_OF_EMPTY_CALL {
        let callers = on_each * bench.agents;
        let (empty, appends) = bench.in_turns(&empty_calls, &appending, callers).await?;
        let name = format!("AppendEvents, one event a call, {callers} in flight; of the empty call");
        rows.push(Row::rate(name, "/s", &appends).of(empty.per_second()).judged_by(Target::AtLeast(least)));
    }
    Ok(rows)
}

/// The same to many runs and with request_ids, compared with the same without: shown, without a target.
pub async fn variants(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let callers = bench.agents;
    let plain = Arc::new(Appending::new(bench, callers).await?);
    let mut run_ids = Vec::new();
    for _ in 0..RUNS {
        run_ids.push(bench.new_run().await?);
    }
    let with = |run_ids: Vec<String>, request_id: fn() -> String| {
        Arc::new(Appending {
            connections: plain.connections.clone(),
            run_ids,
            events: plain.events.clone(),
            request_id,
        })
    };
    let variants = [
        ("to 64 runs", with(run_ids, String::new)),
        ("with UUIDv7 request_ids", with(plain.run_ids.clone(), ascending_id)),
        ("with random request_ids", with(plain.run_ids.clone(), random_id)),
    ];
    bench.begin("appends", 2 * variants.len() * bench.turns());
    let mut rows = Vec::new();
    for (name, variant) in variants {
        let (ceiling, measured) = bench.in_turns(&plain, &variant, callers).await?;
        let name = format!("AppendEvents, {callers} in flight {name}; of that without");
        rows.push(Row::rate(name, "/s", &measured).of(ceiling.per_second()));
    }
    Ok(rows)
}

#[allow(clippy::disallowed_methods)] // Nothing is tested by it.
fn ascending_id() -> String {
    Uuid::now_v7().to_string()
}

#[allow(clippy::disallowed_methods)]
fn random_id() -> String {
    Uuid::new_v4().to_string()
}

/// A hundred events a call.
pub async fn batches(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let mut appending = Appending::new(bench, BATCH_CALLERS).await?;
    appending.events = vec![bench.event.clone(); BATCH];
    let appending = Arc::new(appending);
    bench.begin("batches", 2 * bench.turns());
    let (mut measured, mut bare) = (Load::default(), 0.0);
    for turn in 0..bench.turns() {
        measured.extend(closed_loop(&appending, bench.turn(), BATCH_CALLERS).await?);
        bench.progress.inc(1);
        let (path, batches) = (bench.folder.path().join(format!("bare-{turn}.db")), bench.times(1_000));
        let payload = bench.payload.clone();
        bare += in_background(move || raw::bare_inserts_per_second(&path, batches, BATCH, &payload)).await?;
        bench.progress.inc(1);
    }
    let name = "AppendEvents, 100 a call, 16 callers; of SQLite's own inserts";
    let row = Row::new(name, "events/s", measured.per_second() * BATCH as f64).with_times(&measured.times);
    Ok(vec![row.of(bare / bench.turns() as f64).judged_by(Target::AtLeast(LEAST_OF_BARE_INSERTS))])
}

/// Something that keeps a thread busy.
pub async fn in_background<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| Failure::failed(error.to_string()))?;
    done.map_err(|error| Failure::failed(error.to_string()))
}
