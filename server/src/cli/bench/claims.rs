//! Claims.

use std::time::Instant;

use runhub_api::v1;
use runhub_client::{Client, Error};

use super::sample::Sample;
use super::{Bench, Row};
use crate::cli::Failure;

/// The design's: a claim woken by a completion elsewhere.
const MOST_MILLIS: f64 = 100.0;

/// How many others wait at the same time, each for a run of its own in which nothing happens.
const OTHERS: usize = 64;

/// How long a claim that waits takes from the call that completes what its task depends on.
pub async fn woken_by_a_completion(bench: &Bench) -> Result<Row, Failure> {
    let times = bench.times(300);
    bench.begin("woken claims", times);
    let others = others_wait(bench).await?;
    let (worker, waiter) = (bench.client.clone(), Client::connect(&bench.url).await?);
    let mut sample = Sample::default();
    for _ in 0..times {
        sample.add(woken_once(&worker, &waiter).await?);
        bench.progress.inc(1);
    }
    drop(others);
    let p99 = sample.percentile(99);
    Ok(Row {
        name: "claim woken by a completion elsewhere, 64 others waiting",
        unit: "ms",
        value: p99,
        p50: Some(sample.percentile(50)),
        p99: Some(p99),
        ceiling: None,
        ratio: None,
        target: MOST_MILLIS,
        met: p99 <= MOST_MILLIS,
    })
}

/// They stop waiting when this is dropped.
async fn others_wait(bench: &Bench) -> Result<tokio::task::JoinSet<()>, Failure> {
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..OTHERS {
        let (client, run_id) = (bench.client.clone(), new_run(&bench.client).await?);
        others.spawn(async move {
            // Nothing ever comes of it.
            let _ = client.claim_task(claim_request(run_id)).await;
        });
    }
    Ok(others)
}

async fn woken_once(worker: &Client, waiter: &Client) -> Result<std::time::Duration, Failure> {
    let run_id = new_run(worker).await?;
    let first = v1::TaskDraft { key: "first".to_owned(), title: "first".to_owned(), ..v1::TaskDraft::default() };
    let second =
        v1::TaskDraft { title: "second".to_owned(), depends_on: vec!["first".to_owned()], ..v1::TaskDraft::default() };
    let plan = v1::AddTasksRequest { run_id: run_id.clone(), tasks: vec![first, second], ..Default::default() };
    worker.add_tasks(plan).await?;
    let held = worker.claim_task(claim_request(run_id.clone())).await?.claim.unwrap_or_default();
    let waiting = tokio::spawn({
        let waiter = waiter.clone();
        async move { waiter.claim_task(claim_request(run_id)).await.map(|answer| (answer, Instant::now())) }
    });
    // Until it waits: what it would find at once would be no wake-up.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let completed = Instant::now();
    worker.complete_task(completion(&held)).await?;
    let (_, claimed) = waiting.await.map_err(|error| Failure::failed(error.to_string()))??;
    Ok(claimed - completed)
}

fn completion(held: &v1::Claim) -> v1::CompleteTaskRequest {
    v1::CompleteTaskRequest {
        task_id: held.task.as_ref().map(|task| task.id.clone()).unwrap_or_default(),
        lease_token: Some(held.lease_token.clone()),
        ..Default::default()
    }
}

fn claim_request(run_id: String) -> v1::ClaimTaskRequest {
    let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    v1::ClaimTaskRequest { run_id, agent_id: "bench".to_owned(), wait, ..Default::default() }
}

/// A run to measure in.
pub async fn new_run(client: &Client) -> Result<String, Error> {
    let request =
        v1::CreateRunRequest { goal: "bench".to_owned(), repo_path: "bench".to_owned(), ..Default::default() };
    Ok(client.create_run(request).await?.run.unwrap_or_default().id)
}
