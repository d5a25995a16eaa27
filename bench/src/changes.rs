//! This module measures the latency of heartbeats during one change of 50,000 tasks, and the duration of AddTasks calls
//! that extend a chain of 20,000 tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use runhub_api::v1;

use crate::Error;
use crate::backlog::{HEARTBEAT_PAUSE, add_drafts, claim_other_task, send_heartbeats};
use crate::bench::Bench;
use crate::claims::{TASKS_PER_CALL, add_tasks};
use crate::load;
use crate::row::{Row, Target};
use crate::sample::Sample;

/// Target: the maximum latency of a heartbeat during a change of 50,000 tasks, in milliseconds.
const MAX_HEARTBEAT_MILLIS: f64 = 400.0;
/// Target: the maximum ratio of the duration of the last AddTasks call to the duration of the first calls.
const MAX_RATIO_OF_CHAIN: f64 = 1.5;

/// Number of tasks that one call changes.
const TASKS: usize = 50_000;
/// Number of tasks in the chain, in which each task depends on the task before.
const CHAINED_TASKS: usize = 20_000;
/// Time after a change in which the server may still work on the change.
const AFTER_CHANGE: Duration = Duration::from_secs(2);

/// A call that changes all tasks of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Cancel,
    Replace,
    Abandon,
    Requeue,
    Delete,
}

impl Change {
    const ALL: [Self; 5] = [Self::Cancel, Self::Replace, Self::Abandon, Self::Requeue, Self::Delete];

    fn describe(self) -> &'static str {
        match self {
            Self::Cancel => "CancelRun of a run with",
            Self::Replace => "ReplacePendingTasks of",
            Self::Abandon => "AbandonTask of the dependency of",
            Self::Requeue => "RequeueTask of the dependency of",
            Self::Delete => "DeleteRun of a run with",
        }
    }
}

/// Measures heartbeats during changes of 50,000 tasks, and returns the result rows. Fails if the server can't be
/// started or a call fails.
pub async fn measure_changes(bench: &Bench) -> Result<Vec<Row>, Error> {
    let server = bench.start_server()?;
    let bench = bench.connect_to_server(&server.url).await?;
    let tasks = bench.scale_count(TASKS);
    let with_dependency = create_tasks_with_dependency(&bench, tasks).await?;
    let without = bench.create_run().await?;
    add_tasks(&bench, &without, tasks).await?;
    let to_cancel = bench.create_run().await?;
    add_tasks(&bench, &to_cancel, tasks).await?;
    let mut rows = Vec::new();
    bench.start_progress("changes", Change::ALL.len());
    for change in Change::ALL {
        let run_id = if change == Change::Replace { &without } else { &to_cancel };
        rows.push(measure_change(&bench, change, run_id, &with_dependency).await?);
        bench.advance(1);
    }
    rows.push(measure_chain(&bench).await?);
    Ok(rows)
}

/// Creates a run with a first task and `count` tasks that depend on the first task. Returns the id of the first task.
/// Fails if a call fails.
async fn create_tasks_with_dependency(bench: &Bench, count: usize) -> Result<String, Error> {
    let run_id = bench.create_run().await?;
    let draft = v1::TaskDraft { title: "task".to_owned(), ..Default::default() };
    let first = add_drafts(bench, &run_id, vec![draft.clone()]).await?.remove(0);
    let dependent = v1::TaskDraft { depends_on: vec![first.id.clone()], ..draft };
    for added in (0..count).step_by(TASKS_PER_CALL) {
        add_drafts(bench, &run_id, vec![dependent.clone(); TASKS_PER_CALL.min(count - added)]).await?;
    }
    Ok(first.id)
}

async fn measure_change(bench: &Bench, change: Change, run_id: &str, task_id: &str) -> Result<Row, Error> {
    let lease_token = claim_other_task(bench).await?;
    let connection = load::connect(&bench.url, load::WIDE_WINDOW).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let heartbeats = tokio::spawn(send_heartbeats(connection, lease_token, move || ends.load(Ordering::Relaxed)));
    tokio::time::sleep(10 * HEARTBEAT_PAUSE).await;
    make_change(bench, change, run_id.to_owned(), task_id.to_owned()).await?;
    tokio::time::sleep(AFTER_CHANGE).await;
    is_over.store(true, Ordering::Relaxed);
    let times = heartbeats.await??;
    let tasks = HumanCount(bench.scale_count(TASKS) as u64);
    let name = format!("longest heartbeat during {} {tasks} tasks", change.describe());
    Ok(Row::new(name, "ms", times.percentile(100)).with_target(Target::AtMost(MAX_HEARTBEAT_MILLIS)))
}

async fn make_change(bench: &Bench, change: Change, run_id: String, task_id: String) -> Result<(), Error> {
    let client = &bench.client;
    match change {
        Change::Cancel => drop(client.cancel_run(v1::CancelRunRequest { run_id, ..Default::default() }).await?),
        Change::Replace => {
            let request = v1::ReplacePendingTasksRequest { run_id, ..Default::default() };
            client.replace_pending_tasks(request).await?;
        }
        Change::Abandon => drop(client.abandon_task(v1::AbandonTaskRequest { task_id, ..Default::default() }).await?),
        Change::Requeue => drop(client.requeue_task(v1::RequeueTaskRequest { task_id, ..Default::default() }).await?),
        Change::Delete => drop(client.delete_run(v1::DeleteRunRequest { run_id, ..Default::default() }).await?),
    }
    Ok(())
}

/// Measures AddTasks calls that extend a chain of tasks, and compares the last calls with the first calls. Returns one
/// result row. Fails if a call fails.
async fn measure_chain(bench: &Bench) -> Result<Row, Error> {
    let run_id = bench.create_run().await?;
    let calls = CHAINED_TASKS / TASKS_PER_CALL;
    let mut times = Vec::new();
    let mut last_id = None;
    for _ in 0..calls {
        let drafts = create_chain(last_id);
        let called = Instant::now();
        let added = add_drafts(bench, &run_id, drafts).await?;
        times.push(called.elapsed());
        last_id = added.last().map(|task| task.id.clone());
    }
    let mut first = Sample::new()?;
    let mut last = Sample::new()?;
    times.iter().take(calls / 4).for_each(|time| first.record(*time));
    times.iter().rev().take(calls / 4).for_each(|time| last.record(*time));
    let name =
        format!("AddTasks, last calls of a chain of {} tasks; vs. the first calls", HumanCount(CHAINED_TASKS as u64));
    let row = Row::p50(name, &last).with_ceiling(first.percentile(50));
    Ok(row.with_target(Target::AtMost(MAX_RATIO_OF_CHAIN)))
}

/// Returns drafts of which each depends on the draft before. The first draft depends on the task `after`.
fn create_chain(after: Option<String>) -> Vec<v1::TaskDraft> {
    let mut depends_on: Vec<String> = after.into_iter().collect();
    let mut drafts = Vec::with_capacity(TASKS_PER_CALL);
    for number in 0..TASKS_PER_CALL {
        let key = number.to_string();
        let depends_on = std::mem::replace(&mut depends_on, vec![key.clone()]);
        drafts.push(v1::TaskDraft { key, title: "task".to_owned(), depends_on, ..Default::default() });
    }
    drafts
}
