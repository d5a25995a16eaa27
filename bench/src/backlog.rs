//! This module measures the latency of heartbeats while agents poll a large backlog of tasks that the agents can't
//! claim, and the latency of claims beside such a backlog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use runhub_api::v1;
use runhub_api::v1::task_service_client::TaskServiceClient;
use runhub_client::Client;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::Error;
use crate::bench::Bench;
use crate::claims::{TASKS_PER_CALL, claim_request, completion_request};
use crate::load::{self, join_all};
use crate::row::{Row, Target};
use crate::sample::Sample;

/// Target: the maximum p99 of the latencies of heartbeats, in milliseconds.
const MAX_HEARTBEAT_MILLIS: f64 = 100.0;
/// Target: the maximum p50 of the latencies of claims beside tasks with blocked paths, in milliseconds.
const MAX_CLAIM_MILLIS: f64 = 10.0;
/// Target: the maximum p50 of the latencies of claims of tasks with 256 path patterns, in milliseconds.
const MAX_PATTERNS_MILLIS: f64 = 20.0;
/// Target: the maximum ratio of the latency of a claim over 5,000 runs to the latency of a claim of one run.
const MAX_RATIO_OF_RUNS: f64 = 2.0;

/// Number of pending tasks that the polling agents can't claim.
const TASKS: usize = 50_000;
const RUNS: usize = 5_000;
const POLLERS: usize = 64;
/// Pause between two heartbeats of the measured agent, so that the heartbeats do not load the server.
pub const HEARTBEAT_PAUSE: Duration = Duration::from_millis(2);
/// Number of measured claims of a row.
const CLAIMS: usize = 200;
/// The time 2100-01-01T00:00:00Z, in seconds since 1970-01-01T00:00:00Z.
const YEAR_2100: i64 = 4_102_444_800;
/// Number of path patterns of a task.
const PATTERNS: usize = 256;
/// Number of tasks with `PATTERNS` path patterns that are leased during the measurement.
const LEASED_TASKS: usize = 30;

/// Specifies why the agents can't claim the tasks of a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Time,
    Capability,
    Paths,
    /// The tasks require a capability that the agents lack, and belong to 5,000 runs.
    Runs,
}

impl Obstacle {
    const ALL: [Self; 4] = [Self::Time, Self::Capability, Self::Paths, Self::Runs];

    fn describe(self) -> &'static str {
        match self {
            Self::Time => "that are not due",
            Self::Capability => "of a capability they lack",
            Self::Paths => "of distinct paths under a leased path",
            Self::Runs => "of 5,000 runs",
        }
    }

    fn draft(self, number: usize) -> v1::TaskDraft {
        let mut draft = v1::TaskDraft { title: "task".to_owned(), ..Default::default() };
        match self {
            Self::Time => draft.not_before_time = Some(prost_types::Timestamp { seconds: YEAR_2100, nanos: 0 }),
            Self::Capability | Self::Runs => draft.required_capabilities = vec!["missing".to_owned()],
            Self::Paths => draft.allowed_paths = vec![format!("src/part-{number}")],
        }
        draft
    }
}

/// Measures heartbeats and claims beside backlogs, and returns the result rows. Fails if a server can't be started or a
/// call fails.
pub async fn measure_backlogs(bench: &Bench) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for obstacle in Obstacle::ALL {
        let server = bench.start_server()?;
        let bench = bench.connect_to_server(&server.url).await?;
        let run_id = create_backlog(&bench, obstacle).await?;
        rows.push(measure_heartbeats(&bench, obstacle, &run_id).await?);
        if obstacle == Obstacle::Paths {
            rows.extend(measure_claims_beside_blocked_paths(&bench, &run_id).await?);
        }
    }
    let server = bench.start_server()?;
    let bench = bench.connect_to_server(&server.url).await?;
    rows.push(measure_claims_of_many_patterns(&bench).await?);
    rows.push(measure_claims_of_many_runs(&bench).await?);
    Ok(rows)
}

/// Creates the tasks of a backlog. Returns the id of the run of the tasks, or an empty string if the tasks belong to
/// several runs. Fails if a call fails.
async fn create_backlog(bench: &Bench, obstacle: Obstacle) -> Result<String, Error> {
    let tasks = bench.scale_count(TASKS);
    bench.start_progress("backlog", tasks);
    if obstacle == Obstacle::Runs {
        let runs = bench.scale_count(RUNS);
        create_runs(bench, runs, &vec![obstacle.draft(0); tasks / runs]).await?;
        return Ok(String::new());
    }
    let run_id = bench.create_run().await?;
    if obstacle == Obstacle::Paths {
        let draft = v1::TaskDraft { title: "src".into(), allowed_paths: vec!["src".into()], ..Default::default() };
        add_drafts(bench, &run_id, vec![draft]).await?;
        bench.client.claim_task(claim_request(run_id.clone(), None)).await?;
    }
    for first in (0..tasks).step_by(TASKS_PER_CALL) {
        let last = tasks.min(first + TASKS_PER_CALL);
        add_drafts(bench, &run_id, (first..last).map(|number| obstacle.draft(number)).collect()).await?;
        bench.advance(TASKS_PER_CALL);
    }
    Ok(run_id)
}

/// Adds tasks to a run and returns the added tasks. Fails if the AddTasks call fails.
pub async fn add_drafts(bench: &Bench, run_id: &str, tasks: Vec<v1::TaskDraft>) -> Result<Vec<v1::Task>, Error> {
    let request = v1::AddTasksRequest { run_id: run_id.to_owned(), tasks, ..Default::default() };
    Ok(bench.client.add_tasks(request).await?.tasks)
}

/// Creates `count` runs, each with the tasks `drafts`, over 64 connections. Fails if a call fails.
async fn create_runs(bench: &Bench, count: usize, drafts: &[v1::TaskDraft]) -> Result<(), Error> {
    let mut creators = JoinSet::new();
    for creator in 0..POLLERS {
        let client = bench.client.clone();
        let drafts = drafts.to_vec();
        let runs = (creator..count).step_by(POLLERS).len();
        creators.spawn(async move {
            for _ in 0..runs {
                let run =
                    v1::CreateRunRequest { goal: "bench".into(), repo_path: "bench".into(), ..Default::default() };
                let run_id = client.create_run(run).await?.run.unwrap_or_default().id;
                let tasks = drafts.clone();
                client.add_tasks(v1::AddTasksRequest { run_id, tasks, ..Default::default() }).await?;
            }
            Ok::<_, runhub_client::Error>(())
        });
    }
    while let Some(created) = creators.join_next().await {
        created??;
    }
    Ok(())
}

/// Measures the heartbeats of an agent while other agents poll. Returns one result row. Fails if a call fails.
async fn measure_heartbeats(bench: &Bench, obstacle: Obstacle, run_id: &str) -> Result<Row, Error> {
    let lease_token = claim_other_task(bench).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut pollers = JoinSet::new();
    for connection in load::open_connections(&bench.url, POLLERS).await? {
        let is_over = Arc::clone(&is_over);
        let request = claim_request(run_id.to_owned(), None);
        pollers.spawn(async move {
            let mut tasks = TaskServiceClient::new(connection);
            while !is_over.load(Ordering::Relaxed) {
                tasks.claim_task(request.clone()).await?;
            }
            Ok::<_, Status>(())
        });
    }
    let connection = load::connect(&bench.url, load::WIDE_WINDOW).await?;
    let started = Instant::now();
    let times = send_heartbeats(connection, lease_token, || started.elapsed() >= bench.counting_time()).await?;
    is_over.store(true, Ordering::Relaxed);
    join_all(pollers).await?;
    let tasks = HumanCount(bench.scale_count(TASKS) as u64);
    let name = format!("heartbeat, beside {POLLERS} agents that poll {tasks} tasks {}", obstacle.describe());
    Ok(Row::p99(name, &times).with_target(Target::AtMost(MAX_HEARTBEAT_MILLIS)))
}

/// Creates a run with one task, claims the task, and returns the lease token. Fails if a call fails.
pub async fn claim_other_task(bench: &Bench) -> Result<String, Error> {
    let run_id = bench.create_run().await?;
    add_drafts(bench, &run_id, vec![v1::TaskDraft { title: "other".to_owned(), ..Default::default() }]).await?;
    let claim = bench.client.claim_task(claim_request(run_id, None)).await?.claim;
    Ok(claim.unwrap_or_default().lease_token)
}

/// Sends heartbeats for one lease until `is_over` returns true, and returns the latencies. Fails if a call fails.
pub async fn send_heartbeats(
    connection: Channel,
    lease_token: String,
    is_over: impl Fn() -> bool + Send,
) -> Result<Sample, Error> {
    let mut tasks = TaskServiceClient::new(connection);
    let beats = vec![v1::Beat { lease_token, ..Default::default() }];
    let mut times = Sample::new()?;
    while !is_over() {
        let called = Instant::now();
        tasks.heartbeat(v1::HeartbeatRequest { beats: beats.clone(), ..Default::default() }).await?;
        times.record(called.elapsed());
        tokio::time::sleep(HEARTBEAT_PAUSE).await;
    }
    Ok(times)
}

/// Measures claims that find the only claimable task of a backlog with blocked paths, and claims that find no task.
/// Returns two result rows. Fails if a call fails.
async fn measure_claims_beside_blocked_paths(bench: &Bench, run_id: &str) -> Result<Vec<Row>, Error> {
    let draft = v1::TaskDraft { title: "free".into(), allowed_paths: vec!["docs".into()], ..Default::default() };
    add_drafts(bench, run_id, vec![draft]).await?;
    let mut found = Sample::new()?;
    let mut empty = Sample::new()?;
    for _ in 0..bench.scale_count(CLAIMS) {
        let claim = claim_one(&bench.client, run_id, &mut found).await?;
        let none = claim_one(&bench.client, run_id, &mut empty).await?;
        if none.is_some() {
            return Err(Status::internal("a claim found a task with blocked paths").into());
        }
        let claim = claim.ok_or_else(|| Status::internal("a claim did not find the only claimable task"))?;
        let task_id = claim.task.map(|task| task.id).unwrap_or_default();
        let release = v1::ReleaseTaskRequest { task_id, lease_token: claim.lease_token, ..Default::default() };
        bench.client.release_task(release).await?;
    }
    let tasks = HumanCount(bench.scale_count(TASKS) as u64);
    let row = |figure: &str, times: &Sample| {
        let name = format!("claim that finds {figure} beside {tasks} tasks of distinct paths under a leased path");
        Row::p50(name, times).with_target(Target::AtMost(MAX_CLAIM_MILLIS))
    };
    Ok(vec![row("one task", &found), row("no task", &empty)])
}

async fn claim_one(client: &Client, run_id: &str, times: &mut Sample) -> Result<Option<v1::Claim>, Error> {
    let called = Instant::now();
    let claim = client.claim_task(claim_request(run_id.to_owned(), None)).await?.claim;
    times.record(called.elapsed());
    Ok(claim)
}

/// Measures claims of tasks with 256 path patterns while 30 such tasks are leased. Returns one result row. Fails if a
/// call fails.
async fn measure_claims_of_many_patterns(bench: &Bench) -> Result<Row, Error> {
    let run_id = bench.create_run().await?;
    let claims = bench.scale_count(CLAIMS);
    bench.start_progress("patterns", claims);
    for task in 0..LEASED_TASKS + claims {
        let pattern = |number: usize| format!("packages/*/src/**/part-{}*.tsx", 1_000_000 + task * 1_000 + number);
        let allowed_paths = (0..PATTERNS).map(pattern).collect();
        add_drafts(bench, &run_id, vec![v1::TaskDraft { title: "t".into(), allowed_paths, ..Default::default() }])
            .await?;
    }
    for _ in 0..LEASED_TASKS {
        bench.client.claim_task(claim_request(run_id.clone(), None)).await?;
    }
    let mut times = Sample::new()?;
    for _ in 0..claims {
        let claim = claim_one(&bench.client, &run_id, &mut times).await?.unwrap_or_default();
        bench.client.complete_task(completion_request(&claim)).await?;
        bench.advance(1);
    }
    let name = format!("claim of a task with {PATTERNS} path patterns, beside {LEASED_TASKS} leased tasks");
    Ok(Row::p50(name, &times).with_target(Target::AtMost(MAX_PATTERNS_MILLIS)))
}

/// Compares claims over 5,000 runs that have ready tasks with claims of one run. Returns one result row. Fails if a
/// call fails.
async fn measure_claims_of_many_runs(bench: &Bench) -> Result<Row, Error> {
    let runs = bench.scale_count(RUNS);
    let claims = bench.scale_count(CLAIMS);
    bench.start_progress("many runs", runs);
    let draft = v1::TaskDraft { title: "task".to_owned(), ..Default::default() };
    create_runs(bench, runs, std::slice::from_ref(&draft)).await?;
    let run_id = bench.create_run().await?;
    add_drafts(bench, &run_id, vec![draft; claims]).await?;
    let mut of_all = Sample::new()?;
    let mut of_one = Sample::new()?;
    // The first claims load data that all later claims use.
    for run_id in ["", &run_id] {
        claim_one(&bench.client, run_id, &mut Sample::new()?).await?;
    }
    for _ in 1..claims {
        claim_one(&bench.client, "", &mut of_all).await?;
        claim_one(&bench.client, &run_id, &mut of_one).await?;
    }
    let name = format!("claim over {} runs with ready tasks; vs. of one run", HumanCount(runs as u64));
    let row = Row::p50(name, &of_all).with_ceiling(of_one.percentile(50));
    Ok(row.with_target(Target::AtMost(MAX_RATIO_OF_RUNS)))
}
