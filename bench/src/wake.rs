//! This module measures the time from the completion of a task until a waiting claim returns the dependent task.

use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_client::Client;
use tokio::task::JoinSet;

use crate::Error;
use crate::bench::{Bench, connect};
use crate::claims::{claim_request, completion_request};
use crate::row::{Row, Target};
use crate::sample::Sample;

/// Target: the maximum p99 of the time from a completion until the woken claim returns, in milliseconds.
const MAX_MILLIS: f64 = 100.0;

const COMPLETIONS: usize = 300;

/// Number of other claims that wait during the measurement. Each of these claims waits for a run that has no tasks.
const OTHER_WAITERS: usize = 64;

const WAIT: prost_types::Duration = prost_types::Duration { seconds: 60, nanos: 0 };

/// The time from the start of a ClaimTask call after which the bench expects the server to hold the call. If the task
/// became ready earlier, the call would return the task without a wake-up.
const WAIT_START: Duration = Duration::from_millis(5);

/// Measures the time from the completion of a task until a waiting claim returns the dependent task, and returns one
/// result row. Fails if a call fails.
pub async fn measure_wake_ups(bench: &Bench) -> Result<Vec<Row>, Error> {
    let other_waiters = start_other_waiters(bench).await?;
    let times = measure_wake_times(bench, &bench.url).await?;
    drop(other_waiters);
    let row = Row::p99("claim woken by a completion, beside 64 other waiting claims", &times);
    Ok(vec![row.with_target(Target::AtMost(MAX_MILLIS))])
}

/// Returns the times from the completion of a task until a claim that waits at the server `waiter_url` returns the
/// dependent task. Fails if a call fails.
pub async fn measure_wake_times(bench: &Bench, waiter_url: &str) -> Result<Sample, Error> {
    let completions = bench.scale_count(COMPLETIONS);
    bench.start_progress("woken claims", completions);
    let waiter = connect(waiter_url).await?;
    let mut times = Sample::new()?;
    for _ in 0..completions {
        times.record(measure_wake_up(bench, &waiter).await?);
        bench.advance(1);
    }
    Ok(times)
}

/// Starts `OTHER_WAITERS` waiting claims and returns the Tokio tasks of the claims. Dropping the returned value ends
/// the claims. Fails if a CreateRun call fails.
async fn start_other_waiters(bench: &Bench) -> Result<JoinSet<()>, Error> {
    let mut waiters = JoinSet::new();
    for _ in 0..OTHER_WAITERS {
        let client = bench.client.clone();
        let run_id = bench.create_run().await?;
        waiters.spawn(async move {
            // Ignore the result. The run has no tasks, so this claim never returns a task.
            let _ = client.claim_task(claim_request(run_id, Some(WAIT))).await;
        });
    }
    Ok(waiters)
}

async fn measure_wake_up(bench: &Bench, waiter: &Client) -> Result<Duration, Error> {
    let run_id = bench.create_run().await?;
    add_dependent_tasks(bench, &run_id).await?;
    let worker = &bench.client;
    let claim = worker.claim_task(claim_request(run_id.clone(), None)).await?.claim.unwrap_or_default();
    let waiting = tokio::spawn({
        let waiter = waiter.clone();
        async move {
            let answer = waiter.claim_task(claim_request(run_id, Some(WAIT))).await;
            answer.map(|_| Instant::now())
        }
    });
    tokio::time::sleep(WAIT_START).await;
    let completed = Instant::now();
    worker.complete_task(completion_request(&claim)).await?;
    let claimed = waiting.await??;
    Ok(claimed - completed)
}

/// Adds two tasks to a run. The second task depends on the first task. Fails if the AddTasks call fails.
async fn add_dependent_tasks(bench: &Bench, run_id: &str) -> Result<(), Error> {
    let first = v1::TaskDraft { key: "first".to_owned(), title: "first".to_owned(), ..Default::default() };
    let depends_on = vec!["first".to_owned()];
    let second = v1::TaskDraft { title: "second".to_owned(), depends_on, ..Default::default() };
    let tasks = vec![first, second];
    bench.client.add_tasks(v1::AddTasksRequest { run_id: run_id.to_owned(), tasks, ..Default::default() }).await?;
    Ok(())
}
