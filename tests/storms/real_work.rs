//! Real work: a project's ledger is imported without an option, agents can claim the issues that `bd ready` shows, eight
//! agents complete the ledger once its blocked tasks are requeued, and a watcher that is killed 20 times still gets the
//! whole log. `RUNHUB_REAL_WORK` names the folder with the recorded data. Without it, the ledger and the steps
//! are generated.

mod data;
mod ready;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use runhub_client::Client;
use runhub_client::v1::*;

use self::data::{Ledger, recorded_steps};
use self::ready::ready_issues;
use crate::support::binary::{Binary, runhub, stdout};
use crate::support::calls::*;

const AGENTS: usize = 8;
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn imported_ledger_is_completed_by_agents() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let ledger = Ledger::find(folder.path());
    let summary = stdout(&["import", "beads", ledger.file.to_str().unwrap(), "--db", db.to_str().unwrap()]);
    let tasks = ledger.tasks;
    let completed = ledger.completed;
    let blocked = ledger.blocked;
    let pending = tasks - completed - blocked;
    let expected = format!("{tasks} tasks: {completed} completed, {pending} pending, {blocked} blocked");
    assert!(
        summary.contains(&expected) && summary.contains(&format!("{} dependencies", ledger.dependencies)),
        "{summary}"
    );

    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let run = client.list_runs(unset()).await.unwrap().runs.remove(0);
    let claimable = claim_and_requeue_all(&client, &run.id).await;
    assert_eq!(claimable, ready_issues(&std::fs::read_to_string(&ledger.file).unwrap()));
    assert_eq!(claimable.len(), ledger.claimable, "tasks that are claimable at once");
    assert_eq!(requeue_blocked(&client, &run.id).await, blocked);

    let watcher = watch_through_kills(server.address.clone(), run.id.clone(), 2 * (tasks - completed) / KILLS);
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        agents.push(tokio::spawn(work_until_done(server.connect().await, run.id.clone(), format!("agent {number}"))));
    }
    let mut completed_here = 0;
    for agent in agents {
        completed_here += agent.await.unwrap();
    }
    assert_eq!(completed_here, tasks - completed);
    set_status(&client, &run.id, RunStatus::Completed).await;

    let log = log(&client, &run.id).await;
    let (watched, kills) = watcher.await.unwrap();
    assert_eq!(kills, KILLS);
    assert_eq!(watched, log.iter().map(|event| event.position).collect::<Vec<_>>(), "the watcher must print the log");
    check_order(&client, &run.id, &log).await;
    let request = GetRunSnapshotRequest { run_id: run.id, ..unset() };
    let snapshot = client.get_run_snapshot(request).await.unwrap().snapshot.unwrap();
    assert_eq!(snapshot.completed_tasks.len(), tasks);
    assert!(snapshot.pending_tasks.is_empty() && snapshot.in_progress_tasks.is_empty());
}

/// Claims until no task is claimable, then requeues all of them. Returns the ids of their issues.
async fn claim_and_requeue_all(client: &Client, run_id: &str) -> BTreeSet<String> {
    let mut claimed = BTreeSet::new();
    while let Some(claim) = claim(client, run_id).await {
        claimed.insert(claim.task.unwrap().labels["beads.id"].clone());
    }
    let request = RequeueInProgressTasksRequest { run_id: run_id.into(), ..unset() };
    let requeued = client.requeue_in_progress_tasks(request).await.unwrap().requeued_count;
    assert_eq!(requeued as usize, claimed.len());
    claimed
}

/// Requeues the blocked tasks, as a person does who has decided that agents may work on them. Returns their number.
async fn requeue_blocked(client: &Client, run_id: &str) -> usize {
    let statuses = vec![TaskStatus::Blocked.into()];
    let request = ListTasksRequest { run_id: run_id.into(), statuses, page_size: 1_000, ..unset() };
    let blocked = client.list_tasks(request).await.unwrap().tasks;
    for task in &blocked {
        requeue(client, &task.id).await.unwrap();
    }
    blocked.len()
}

/// Claims and completes tasks until none is left. Returns how many it completed.
async fn work_until_done(client: Client, run_id: String, agent_id: String) -> usize {
    let mut done = 0;
    loop {
        if let Some(claim) = client.claim_task(claim_request(&run_id, &agent_id)).await.unwrap().claim {
            complete(&client, &claim).await;
            done += 1;
            continue;
        }
        let statuses = vec![TaskStatus::Pending.into(), TaskStatus::InProgress.into()];
        let left = ListTasksRequest { run_id: run_id.clone(), statuses, page_size: 1, ..unset() };
        if client.list_tasks(left).await.unwrap().tasks.is_empty() {
            return done;
        }
        // Other agents hold the tasks that the remaining ones depend on.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs `runhub watch`, kills it after every `events` events, and starts it again from the last position it printed.
/// Returns all printed positions and the number of kills.
fn watch_through_kills(server: String, run_id: String, events: usize) -> tokio::task::JoinHandle<(Vec<i64>, usize)> {
    tokio::task::spawn_blocking(move || {
        let mut positions = vec![];
        let mut kills = 0;
        loop {
            let since = positions.last().copied().unwrap_or(0_i64).to_string();
            let mut watch = runhub(&["watch", &run_id, "--json", "--since", &since, "--server", &server]);
            let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
            let mut shown = 0;
            let mut killed = false;
            for line in lines {
                let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                positions.push(event["position"].as_str().unwrap().parse().unwrap());
                shown += 1;
                if shown == events && kills < KILLS {
                    // Lines that it printed after this one are lost, even if it has ended meanwhile.
                    watch.kill().unwrap();
                    kills += 1;
                    killed = true;
                    break;
                }
            }
            let ended_well = watch.wait().unwrap().success();
            if !killed {
                assert!(ended_well);
                return (positions, kills);
            }
        }
    })
}

/// Asserts that no task started before its dependencies were completed, and that none was completed twice.
async fn check_order(client: &Client, run_id: &str, log: &[Event]) {
    let tasks = tasks_of(client, run_id).await;
    let task_ids = |kind: &str| {
        log.iter().filter(|event| event.kind == kind).map(|event| event.task_id.clone().unwrap()).collect::<Vec<_>>()
    };
    let completions = task_ids("task_completed");
    let done_here: BTreeSet<&String> = completions.iter().collect();
    assert_eq!(completions.len(), done_here.len(), "completed twice");
    let is_claim_ended = |event: &&Event| event.kind == "task_requeued" && !json(&event.payload)["agentId"].is_null();
    let requeued_claims = log.iter().filter(is_claim_ended).count();
    assert_eq!(task_ids("task_claimed").len(), completions.len() + requeued_claims, "claimed twice");
    let mut done: BTreeSet<&str> =
        tasks.keys().map(String::as_str).filter(|id| !done_here.contains(&(*id).to_owned())).collect();
    for event in log.iter().filter(|event| event.task_id.is_some()) {
        let id = event.task_id.as_deref().unwrap();
        match event.kind.as_str() {
            "task_claimed" => {
                let open: Vec<_> = tasks[id].depends_on.iter().filter(|on| !done.contains(on.as_str())).collect();
                assert!(open.is_empty(), "{id} was started before {open:?}");
            }
            "task_completed" => assert!(done.insert(id)),
            _ => {}
        }
    }
    assert_eq!(done.len(), tasks.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_steps_round_trip_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("runhub.db"), &[]);
    let client = server.connect().await;
    let recordings = recorded_steps();
    assert!(!recordings.is_empty());
    for steps in recordings {
        let run = new_run(&client).await;
        for step in &steps {
            let payload = value(step.clone());
            append(&client, &run.id, vec![EventDraft { source: "agent".into(), payload, ..event("step") }]).await;
        }
        let out: Vec<_> = log(&client, &run.id).await.iter().skip(1).map(|event| json(&event.payload)).collect();
        assert_eq!(out, steps);
    }
}
