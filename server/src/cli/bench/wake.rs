//! Claims that wait.

use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_client::Client;

use super::Bench;
use super::claims::{claim_request, completion};
use super::row::{Row, Target};
use super::sample::Sample;
use crate::cli::Failure;

/// The design's: a claim woken by a completion elsewhere.
const MOST_MILLIS: f64 = 100.0;

/// How many others wait at the same time, each for a run of its own in which nothing happens.
const OTHERS: usize = 64;

const WAIT: prost_types::Duration = prost_types::Duration { seconds: 60, nanos: 0 };

/// How long a claim that waits takes from the call that completes what its task depends on.
pub async fn woken_by_a_completion(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let times = bench.times(300);
    bench.begin("woken claims", times);
    let others = others_wait(bench).await?;
    let (worker, waiter) = (bench.client.clone(), Client::connect(&bench.url).await?.without_retry());
    let mut sample = Sample::default();
    for _ in 0..times {
        sample.add(woken_once(bench, &worker, &waiter).await?);
        bench.progress.inc(1);
    }
    drop(others);
    let row = Row::p99("claim woken by a completion elsewhere, 64 others waiting", &sample);
    Ok(vec![row.judged_by(Target::AtMost(MOST_MILLIS))])
}

/// They stop waiting when this is dropped.
async fn others_wait(bench: &Bench) -> Result<tokio::task::JoinSet<()>, Failure> {
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..OTHERS {
        let (client, run_id) = (bench.client.clone(), bench.new_run().await?);
        others.spawn(async move {
            // Nothing ever comes of it.
            let _ = client.claim_task(claim_request(run_id, Some(WAIT))).await;
        });
    }
    Ok(others)
}

async fn woken_once(bench: &Bench, worker: &Client, waiter: &Client) -> Result<Duration, Failure> {
    let run_id = bench.new_run().await?;
    let first = v1::TaskDraft { key: "first".to_owned(), title: "first".to_owned(), ..v1::TaskDraft::default() };
    let second =
        v1::TaskDraft { title: "second".to_owned(), depends_on: vec!["first".to_owned()], ..v1::TaskDraft::default() };
    let plan = v1::AddTasksRequest { run_id: run_id.clone(), tasks: vec![first, second], ..Default::default() };
    worker.add_tasks(plan).await?;
    let held = worker.claim_task(claim_request(run_id.clone(), None)).await?.claim.unwrap_or_default();
    let waiting = tokio::spawn({
        let waiter = waiter.clone();
        async move { waiter.claim_task(claim_request(run_id, Some(WAIT))).await.map(|answer| (answer, Instant::now())) }
    });
    // Until it waits: what it would find at once would be no wake-up.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let completed = Instant::now();
    worker.complete_task(completion(&held)).await?;
    let (_, claimed) = waiting.await.map_err(|error| Failure::failed(error.to_string()))??;
    Ok(claimed - completed)
}
