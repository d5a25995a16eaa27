//! The same calls on a small log and on one a thousand times as long.

use std::time::Instant;

use runhub_api::v1;
use tokio::task::JoinSet;

use super::Bench;
use super::claims::claim_request;
use super::own_server::OwnServer;
use super::row::{Row, Target};
use super::sample::Sample;
use crate::cli::Failure;

/// The design's: of the time on the small one.
const MOST: f64 = 1.3;

/// Events of one call while a log is made.
const EVENTS_A_CALL: usize = 1_000;
/// One of so many tasks is ready; the others of its kind depend on it.
const ONE_READY_OF: usize = 10;
const CALLS: usize = 500;

/// How much there is.
#[derive(Clone, Copy)]
struct Size {
    runs: usize,
    tasks_of_each: usize,
    events_of_each: usize,
}

const SMALL: Size = Size { runs: 1, tasks_of_each: 100, events_of_each: 1_000 };
const LARGE: Size = Size { runs: 100, tasks_of_each: 1_000, events_of_each: 10_000 };
/// Only to see that it runs.
const QUICK: Size = Size { runs: 10, tasks_of_each: 100, events_of_each: 1_000 };

/// A server with so much in it.
struct Grown {
    bench: Bench,
    run_id: String,
    /// Of a hundred tasks.
    small_run_id: String,
    _server: OwnServer,
}

/// The rows.
pub async fn all(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let large = if bench.quick { QUICK } else { LARGE };
    let (small, large) = (Grown::make(bench, SMALL).await?, Grown::make(bench, large).await?);
    bench.begin("growth", bench.times(CALLS));
    let (mut at_small, mut at_large) = (Times::default(), Times::default());
    for _ in 0..bench.times(CALLS) {
        small.measure(&mut at_small).await?;
        large.measure(&mut at_large).await?;
        bench.progress.inc(1);
    }
    let row = |name: &str, small: &Sample, large: &Sample| {
        let (p50, p99) = (large.percentile(50), large.percentile(99));
        Row::new(format!("{name}, 1,000,000 events; of 1,000"), "ms", p50).with_times(p50, p99).of(small.percentile(50))
    };
    Ok(vec![
        row("append", &at_small.append, &at_large.append).judged_by(Target::AtMost(MOST)),
        row("claim", &at_small.claim, &at_large.claim).judged_by(Target::AtMost(MOST)),
        row("claim of any run (100 runs; of one)", &at_small.claim_any, &at_large.claim_any),
        row("snapshot of 100 tasks", &at_small.snapshot, &at_large.snapshot).judged_by(Target::AtMost(MOST)),
    ])
}

#[derive(Default)]
struct Times {
    append: Sample,
    claim: Sample,
    claim_any: Sample,
    snapshot: Sample,
}

impl Grown {
    async fn make(bench: &Bench, size: Size) -> Result<Self, Failure> {
        let server = OwnServer::start()?;
        let bench = bench.at(&server.url).await?;
        let small_run_id = bench.new_run().await?;
        plan(&bench, &small_run_id, 100).await?;
        bench.begin("growing", size.runs);
        let mut run_id = String::new();
        for _ in 0..size.runs {
            run_id = bench.new_run().await?;
            plan(&bench, &run_id, size.tasks_of_each).await?;
            fill(&bench, &run_id, size.events_of_each).await?;
            bench.progress.inc(1);
        }
        Ok(Self { bench, run_id, small_run_id, _server: server })
    }

    async fn measure(&self, times: &mut Times) -> Result<(), Failure> {
        let client = &self.bench.client;
        let request = v1::AppendEventsRequest {
            run_id: self.run_id.clone(),
            events: vec![self.bench.event.clone()],
            ..Default::default()
        };
        let begun = Instant::now();
        client.append_events(request).await?;
        times.append.add(begun.elapsed());
        self.claim(&self.run_id, &mut times.claim).await?;
        self.claim("", &mut times.claim_any).await?;
        let request = v1::GetRunSnapshotRequest { run_id: self.small_run_id.clone(), ..Default::default() };
        let begun = Instant::now();
        client.get_run_snapshot(request).await?;
        times.snapshot.add(begun.elapsed());
        Ok(())
    }

    /// Gives it back, so that there is as much to claim as before.
    async fn claim(&self, run_id: &str, times: &mut Sample) -> Result<(), Failure> {
        let begun = Instant::now();
        let claim = self.bench.client.claim_task(claim_request(run_id.to_owned(), None)).await?.claim;
        times.add(begun.elapsed());
        let claim = claim.ok_or_else(|| Failure::failed("there is nothing to claim"))?;
        let task_id = claim.task.unwrap_or_default().id;
        let release = v1::ReleaseTaskRequest { task_id, lease_token: claim.lease_token, ..Default::default() };
        self.bench.client.release_task(release).await?;
        Ok(())
    }
}

/// Tasks of which a tenth is ready.
async fn plan(bench: &Bench, run_id: &str, tasks: usize) -> Result<(), Failure> {
    let draft = |number: usize| {
        let first = number - number % ONE_READY_OF;
        let depends_on = if number == first { vec![] } else { vec![first.to_string()] };
        v1::TaskDraft { key: number.to_string(), title: "task".to_owned(), depends_on, ..Default::default() }
    };
    let tasks = (0..tasks).map(draft).collect();
    bench.client.add_tasks(v1::AddTasksRequest { run_id: run_id.to_owned(), tasks, ..Default::default() }).await?;
    Ok(())
}

/// As many events as it takes, a few calls at a time.
async fn fill(bench: &Bench, run_id: &str, events: usize) -> Result<(), Failure> {
    let mut calls = JoinSet::new();
    for _ in 0..events / EVENTS_A_CALL {
        let (client, events) = (bench.client.clone(), vec![bench.event.clone(); EVENTS_A_CALL]);
        let request = v1::AppendEventsRequest { run_id: run_id.to_owned(), events, ..Default::default() };
        calls.spawn(async move { client.append_events(request).await });
    }
    while let Some(done) = calls.join_next().await {
        done.map_err(|error| Failure::failed(error.to_string()))??;
    }
    Ok(())
}
