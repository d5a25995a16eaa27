//! The same calls on a small log and on one a thousand times as long.

use std::time::Instant;

use runhub_api::v1;
use tokio::task::JoinSet;

use super::claims::claim_request;
use super::own_server::OwnServer;
use super::row::{Row, Target, counted};
use super::sample::Sample;
use super::{Bench, idle, wake, watchers};
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

impl Size {
    fn shown(self) -> String {
        format!("{} events", counted(self.runs * self.events_of_each))
    }
}

/// A server with so much in it.
struct Grown {
    bench: Bench,
    size: Size,
    /// Neither the oldest nor the newest of them.
    run_id: String,
    /// Of a hundred tasks.
    small_run_id: String,
    server: OwnServer,
}

/// The rows: of one caller in turns on both, and then those of other groups once more, on each.
pub async fn all(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let large = if bench.quick { QUICK } else { LARGE };
    let (small, large) = (Grown::make(bench, SMALL).await?, Grown::make(bench, large).await?);
    let mut rows = in_turns(&small, &large).await?;
    for grown in [small, large] {
        rows.extend(grown.others().await?);
    }
    Ok(rows)
}

async fn in_turns(small: &Grown, large: &Grown) -> Result<Vec<Row>, Failure> {
    let (bench, mut at_small, mut at_large) = (&large.bench, Times::default(), Times::default());
    bench.begin("growth", bench.times(CALLS));
    for _ in 0..bench.times(CALLS) {
        small.measure(&mut at_small).await?;
        large.measure(&mut at_large).await?;
        bench.progress.inc(1);
    }
    let compared = format!("at {}; of that at {}", large.size.shown(), small.size.shown());
    let row = |name: &str, small: &Sample, large: &Sample| {
        let row = Row::p50(format!("{name} {compared}"), large).of(small.percentile(50));
        row.judged_by(Target::AtMost(MOST))
    };
    let runs = format!("claim of any of {} runs", counted(large.size.runs));
    Ok(vec![
        row("append", &at_small.append, &at_large.append),
        row("claim", &at_small.claim, &at_large.claim),
        row(&runs, &at_small.claim_any, &at_large.claim_any),
        row("snapshot of 100 tasks", &at_small.snapshot, &at_large.snapshot),
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
        let mut run_ids = Vec::new();
        for _ in 0..size.runs {
            let run_id = bench.new_run().await?;
            plan(&bench, &run_id, size.tasks_of_each).await?;
            fill(&bench, &run_id, size.events_of_each).await?;
            run_ids.push(run_id);
            bench.progress.inc(1);
        }
        let run_id = run_ids.swap_remove(size.runs / 2);
        Ok(Self { bench, size, run_id, small_run_id, server })
    }

    /// What other groups measure on a server with nothing in it.
    async fn others(self) -> Result<Vec<Row>, Failure> {
        let mut rows = wake::woken_by_a_completion(&self.bench).await?;
        rows.extend(watchers::beside_one_that_never_reads(&self.bench).await?);
        rows.extend(idle::of_restarted(&self.bench, self.server).await?);
        let size = self.size.shown();
        Ok(rows.into_iter().map(|row| Row { name: format!("at {size}: {}", row.name), ..row }).collect())
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
