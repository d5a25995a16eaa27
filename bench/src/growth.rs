//! This module compares the latencies of calls on a log of 1,000 events with the latencies of calls on a log of
//! 1,000,000 events.

use std::fmt;
use std::time::Instant;

use indicatif::HumanCount;
use runhub_api::v1;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::claims::claim_request;
use crate::own_server::OwnServer;
use crate::row::{Row, Target};
use crate::sample::Sample;
use crate::{Error, idle, wake, watchers};

/// Target: the maximum ratio of a call's latency on the large log to the call's latency on the small log.
const MAX_RATIO: f64 = 1.3;
/// Target on PostgreSQL for claims that accept a task of any run.
const MAX_RATIO_OF_CLAIM_ANY_ON_POSTGRES: f64 = 1.7;

/// Maximum number of events that the API accepts in one AppendEvents call.
const EVENTS_PER_CALL: usize = 1_000;
/// Number of tasks in each group. One task of a group is ready, and the other tasks of the group depend on that task.
const TASKS_PER_READY_TASK: usize = 10;
/// Number of tasks in the run whose snapshot is measured. The number is equal on the small and the large server.
const SNAPSHOT_TASKS: usize = 100;
const CALLS: usize = 500;
/// The run_id with which ClaimTask accepts a task of any run.
const ANY_RUN: &str = "";

/// The numbers of runs, tasks and events that the bench creates on a server.
#[derive(Clone, Copy)]
struct Size {
    runs: usize,
    tasks_per_run: usize,
    events_per_run: usize,
}

const SMALL: Size = Size { runs: 1, tasks_per_run: 100, events_per_run: 1_000 };
const LARGE: Size = Size { runs: 100, tasks_per_run: 1_000, events_per_run: 10_000 };
/// The numbers of runs, tasks and events on the large server with the option `--quick`.
const QUICK: Size = Size { runs: 10, tasks_per_run: 100, events_per_run: 1_000 };

impl fmt::Display for Size {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{} events", HumanCount((self.runs * self.events_per_run) as u64))
    }
}

/// A server that the bench started and filled with runs, tasks and events.
struct FilledServer {
    bench: Bench,
    size: Size,
    /// The id of the run for the measured appends and claims. The run is in the middle of the order of creation.
    run_id: String,
    /// The id of the run with `SNAPSHOT_TASKS` tasks, whose snapshot is measured.
    snapshot_run_id: String,
    server: OwnServer,
}

/// Measures the latencies of one caller's calls alternately on a small and a large server, then runs
/// `measure_wake_slow_and_idle` on each server, and returns all result rows. Fails if a server can't be started or a call
/// fails.
pub async fn measure_growth(bench: &Bench) -> Result<Vec<Row>, Error> {
    let small = FilledServer::start(bench, SMALL).await?;
    let large = FilledServer::start(bench, if bench.quick { QUICK } else { LARGE }).await?;
    let mut rows = compare_logs(&small, &large).await?;
    for filled in [small, large] {
        rows.extend(filled.measure_wake_slow_and_idle().await?);
    }
    Ok(rows)
}

async fn compare_logs(small: &FilledServer, large: &FilledServer) -> Result<Vec<Row>, Error> {
    let calls = large.bench.scale_count(CALLS);
    let mut on_small = Times::new()?;
    let mut on_large = Times::new()?;
    large.bench.start_progress("growth", calls);
    for _ in 0..calls {
        small.measure_calls(&mut on_small).await?;
        large.measure_calls(&mut on_large).await?;
        large.bench.advance(1);
    }
    let sizes = format!("at {}; vs. at {}", large.size, small.size);
    let row = |name: &str, small: &Sample, large: &Sample| {
        let row = Row::p50(format!("{name} {sizes}"), large).with_ceiling(small.percentile(50));
        row.with_target(Target::AtMost(MAX_RATIO))
    };
    let claim_any = format!("claim of any of {} runs", HumanCount(large.size.runs as u64));
    let mut claim_any = row(&claim_any, &on_small.claim_any, &on_large.claim_any);
    if large.bench.is_on_postgres() {
        claim_any = claim_any.with_target(Target::AtMost(MAX_RATIO_OF_CLAIM_ANY_ON_POSTGRES));
    }
    Ok(vec![
        row("append", &on_small.append, &on_large.append),
        row("claim", &on_small.claim, &on_large.claim),
        claim_any,
        row("snapshot of 100 tasks", &on_small.snapshot, &on_large.snapshot),
    ])
}

struct Times {
    append: Sample,
    /// The latencies of claims that accept a task of one run only.
    claim: Sample,
    /// The latencies of claims that accept a task of any run.
    claim_any: Sample,
    snapshot: Sample,
}

impl Times {
    fn new() -> Result<Self, Error> {
        Ok(Self { append: Sample::new()?, claim: Sample::new()?, claim_any: Sample::new()?, snapshot: Sample::new()? })
    }
}

impl FilledServer {
    async fn start(bench: &Bench, size: Size) -> Result<Self, Error> {
        let server = bench.start_server()?;
        let bench = bench.connect_to_server(&server.url).await?;
        let snapshot_run_id = bench.create_run().await?;
        add_tasks(&bench, &snapshot_run_id, SNAPSHOT_TASKS).await?;
        bench.start_progress("growing", size.runs);
        let mut run_ids = Vec::new();
        for _ in 0..size.runs {
            let run_id = bench.create_run().await?;
            add_tasks(&bench, &run_id, size.tasks_per_run).await?;
            append_events(&bench, &run_id, size.events_per_run).await?;
            run_ids.push(run_id);
            bench.advance(1);
        }
        let run_id = run_ids.swap_remove(size.runs / 2);
        Ok(Self { bench, size, run_id, snapshot_run_id, server })
    }

    /// Measures on this filled server the latency of woken claims, the effect of a watcher that never reads, and the
    /// memory and the start time after a restart. Returns the result rows. Fails if the server can't be restarted or a
    /// call fails.
    async fn measure_wake_slow_and_idle(self) -> Result<Vec<Row>, Error> {
        let mut rows = wake::measure_wake_ups(&self.bench).await?;
        rows.extend(watchers::measure_watchers_with_unread_stream(&self.bench).await?);
        rows.extend(idle::measure_restarted_server(&self.bench, self.server).await?);
        for row in &mut rows {
            row.name = format!("at {}: {}", self.size, row.name);
        }
        Ok(rows)
    }

    async fn measure_calls(&self, times: &mut Times) -> Result<(), Error> {
        self.measure_append(&mut times.append).await?;
        self.measure_claim(&self.run_id, &mut times.claim).await?;
        self.measure_claim(ANY_RUN, &mut times.claim_any).await?;
        self.measure_snapshot(&mut times.snapshot).await
    }

    async fn measure_append(&self, times: &mut Sample) -> Result<(), Error> {
        let events = vec![self.bench.event.clone()];
        let request = v1::AppendEventsRequest { run_id: self.run_id.clone(), events, ..Default::default() };
        let started = Instant::now();
        self.bench.client.append_events(request).await?;
        times.record(started.elapsed());
        Ok(())
    }

    /// Adds the latency of one claim to `times` and then releases the task, so that every claim finds an equal number
    /// of ready tasks. Fails if a call fails or if no task is ready.
    async fn measure_claim(&self, run_id: &str, times: &mut Sample) -> Result<(), Error> {
        let request = claim_request(run_id.to_owned(), None);
        let started = Instant::now();
        let claim = self.bench.client.claim_task(request).await?.claim;
        times.record(started.elapsed());
        let claim = claim.ok_or_else(|| Error::NothingToClaim { url: self.bench.url.clone() })?;
        let task_id = claim.task.unwrap_or_default().id;
        let release = v1::ReleaseTaskRequest { task_id, lease_token: claim.lease_token, ..Default::default() };
        self.bench.client.release_task(release).await?;
        Ok(())
    }

    async fn measure_snapshot(&self, times: &mut Sample) -> Result<(), Error> {
        let request = v1::GetRunSnapshotRequest { run_id: self.snapshot_run_id.clone(), ..Default::default() };
        let started = Instant::now();
        self.bench.client.get_run_snapshot(request).await?;
        times.record(started.elapsed());
        Ok(())
    }
}

/// Adds `count` tasks to a run, in groups of `TASKS_PER_READY_TASK` tasks. The first task of a group is ready, and the
/// other tasks of the group depend on the first task. Fails if the AddTasks call fails.
async fn add_tasks(bench: &Bench, run_id: &str, count: usize) -> Result<(), Error> {
    let mut tasks = Vec::with_capacity(count);
    for number in 0..count {
        let ready = number - number % TASKS_PER_READY_TASK;
        let depends_on = if number == ready { vec![] } else { vec![ready.to_string()] };
        let draft =
            v1::TaskDraft { key: number.to_string(), title: "task".to_owned(), depends_on, ..Default::default() };
        tasks.push(draft);
    }
    bench.client.add_tasks(v1::AddTasksRequest { run_id: run_id.to_owned(), tasks, ..Default::default() }).await?;
    Ok(())
}

/// Appends `count` events to a run. All AppendEvents calls are in flight at the same time. Fails if a call fails.
async fn append_events(bench: &Bench, run_id: &str, count: usize) -> Result<(), Error> {
    let mut calls = JoinSet::new();
    for _ in 0..count / EVENTS_PER_CALL {
        let client = bench.client.clone();
        let events = vec![bench.event.clone(); EVENTS_PER_CALL];
        let request = v1::AppendEventsRequest { run_id: run_id.to_owned(), events, ..Default::default() };
        calls.spawn(async move { client.append_events(request).await });
    }
    while let Some(joined) = calls.join_next().await {
        joined??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_shown_with_thousands_separators() {
        assert_eq!(SMALL.to_string(), "1,000 events");
        assert_eq!(LARGE.to_string(), "1,000,000 events");
    }
}
