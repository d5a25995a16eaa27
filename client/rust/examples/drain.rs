//! This example starts N agents, which claim tasks, sleep for the duration of each task, and complete the tasks until
//! no task remains. A watcher counts the events.
//!
//! Start a server and run `cargo run --release -p runhub-client --example drain -- --agents 8 [RUN]`. Without RUN, the
//! example creates a run with a plan of 200 tasks in twenty chains.

// The example prints its results to standard output.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use runhub_client::v1::{
    AddTasksRequest, Claim, ClaimTaskRequest, CompleteTaskRequest, CreateRunRequest, ListTasksRequest, RunStatus,
    SubscribeEventsRequest, TaskDraft, TaskStatus, UpdateRunRequest,
};
use runhub_client::{Client, Error, Update};

/// Maximum time that a claim waits for a task, in seconds. After this time, the agent checks whether a task remains.
const WAIT_SECONDS: i64 = 1;

#[derive(Parser)]
struct Args {
    /// The run to drain. Default: a new run
    run: Option<String>,
    /// The address of the server: http://HOST:PORT, HOST:PORT or unix:PATH
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    server: String,
    /// The number of agents that run at the same time
    #[arg(long, default_value_t = 8)]
    agents: usize,
    /// The duration of a task, in milliseconds
    #[arg(long, default_value_t = 20)]
    work: u64,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args = Args::parse();
    let client = Client::connect(&args.server).await?;
    let run_id = match args.run {
        Some(run_id) => run_id,
        None => create_run(&client).await?,
    };
    println!("draining run {run_id} with {} agents", args.agents);
    let watcher = tokio::spawn(watch(client.clone(), run_id.clone()));
    let mut agents = Vec::new();
    for number in 1..=args.agents {
        let name = format!("agent-{number}");
        let duration = Duration::from_millis(args.work);
        agents.push(tokio::spawn(work(client.clone(), run_id.clone(), name, duration)));
    }
    let mut done = 0;
    for agent in agents {
        done += agent.await.unwrap_or(Ok(0))?;
    }
    // The server does not end a run by itself. Without this update, the watcher's stream would never end.
    let request = UpdateRunRequest {
        run_id,
        status: Some(RunStatus::Completed.into()),
        summary: Some(format!("{done} tasks done")),
        ..UpdateRunRequest::default()
    };
    client.update_run(request).await?;
    let seen = watcher.await.unwrap_or_else(|_| Ok(BTreeMap::new()))?;
    println!("{done} tasks done; the watcher saw:");
    for (kind, count) in seen {
        println!("  {count:>6} {kind}");
    }
    Ok(())
}

/// Creates a run whose plan has twenty chains of ten tasks, and returns the run's id.
async fn create_run(client: &Client) -> Result<String, Error> {
    let request = CreateRunRequest {
        goal: "Show how agents drain a plan".to_owned(),
        repo_path: ".".to_owned(),
        ..CreateRunRequest::default()
    };
    let run_id = client.create_run(request).await?.run.unwrap_or_default().id;
    let draft = |at: usize| TaskDraft {
        key: at.to_string(),
        title: format!("Step {} of chain {}", at / 20 + 1, at % 20 + 1),
        depends_on: at.checked_sub(20).map(|before| before.to_string()).into_iter().collect(),
        ..TaskDraft::default()
    };
    let request =
        AddTasksRequest { run_id: run_id.clone(), tasks: (0..200).map(draft).collect(), ..Default::default() };
    client.add_tasks(request).await?;
    Ok(run_id)
}

/// Claims and completes tasks as one agent until no task remains. Returns the number of completed tasks.
async fn work(client: Client, run_id: String, agent_id: String, duration: Duration) -> Result<usize, Error> {
    let mut done = 0;
    loop {
        let Some(claim) = claim(&client, &run_id, &agent_id).await? else {
            if !has_remaining_work(&client, &run_id).await? {
                return Ok(done);
            }
            continue;
        };
        // The keeper must renew the lease until the server has answered the report, so the keeper is dropped only
        // afterwards.
        let lease = client.keep_lease(&claim);
        match lease.run(tokio::time::sleep(duration)).await {
            Ok(()) => complete(&client, claim).await?,
            Err(lost) => {
                println!("{agent_id} stops working on a task: {lost}");
                continue;
            }
        }
        done += 1;
    }
}

/// Claims a task. Returns None if no task becomes claimable within `WAIT_SECONDS`. The claim has to wait, because a
/// task may depend on a task whose lease another agent holds.
async fn claim(client: &Client, run_id: &str, agent_id: &str) -> Result<Option<Claim>, Error> {
    let request = ClaimTaskRequest {
        run_id: run_id.to_owned(),
        agent_id: agent_id.to_owned(),
        wait: Some(prost_types::Duration { seconds: WAIT_SECONDS, nanos: 0 }),
        ..ClaimTaskRequest::default()
    };
    Ok(client.claim_task(request).await?.claim)
}

async fn complete(client: &Client, claim: Claim) -> Result<(), Error> {
    let request = CompleteTaskRequest {
        task_id: claim.task.unwrap_or_default().id,
        lease_token: Some(claim.lease_token),
        summary: "pretended to do it".to_owned(),
        ..CompleteTaskRequest::default()
    };
    client.complete_task(request).await?;
    Ok(())
}

async fn has_remaining_work(client: &Client, run_id: &str) -> Result<bool, Error> {
    let request = ListTasksRequest {
        run_id: run_id.to_owned(),
        statuses: vec![TaskStatus::Pending.into(), TaskStatus::InProgress.into()],
        page_size: 1,
        ..ListTasksRequest::default()
    };
    Ok(!client.list_tasks(request).await?.tasks.is_empty())
}

/// Follows the run until the run ends, and returns the number of events of each kind.
async fn watch(client: Client, run_id: String) -> Result<BTreeMap<String, usize>, Error> {
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} tasks completed  {elapsed}  {per_sec}") {
        bar.set_style(style);
    }
    let mut seen = BTreeMap::new();
    let mut events = client.subscribe(SubscribeEventsRequest { run_id, ..SubscribeEventsRequest::default() });
    while let Some(update) = events.next().await {
        if let Update::Event(event) = update? {
            bar.inc(u64::from(event.kind == "task_completed"));
            *seen.entry(event.kind).or_default() += 1;
        }
    }
    bar.finish_and_clear();
    Ok(seen)
}
