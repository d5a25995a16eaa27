//! Claims, tokens and attempts.

use runhub_client::v1::*;
use runhub_client::{Error, Reason};

use crate::support::TestServer;
use crate::support::calls::*;

#[tokio::test]
async fn tasks_are_claimed_by_priority_then_plan_order() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let drafts = [("a", 0), ("b", 5), ("c", -1), ("d", 5)];
    let drafts = drafts.map(|(title, priority)| TaskDraft { priority, ..draft(title) });
    add_tasks(client, &run.id, drafts.to_vec()).await;
    let mut order = Vec::new();
    while let Some(claim) = claim(client, &run.id).await {
        order.push(claim.task.unwrap().title);
    }
    assert_eq!(order, ["b", "d", "a", "c"]);
}

#[tokio::test]
async fn task_waits_for_its_dependencies() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![keyed("late", &["a", "b"]), keyed("a", &[]), keyed("b", &["a"])]).await;
    for expected in ["a", "b", "late"] {
        let held = claim(client, &run.id).await.unwrap();
        assert_eq!(held.task.as_ref().unwrap().title, expected);
        assert_eq!(claim(client, &run.id).await, None);
        complete(client, &held).await;
    }
}

#[tokio::test]
async fn operator_cannot_complete_a_task_before_its_dependencies() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, vec![keyed("a", &[]), keyed("b", &["a"])]).await;
    let by_hand = |task: &Task| CompleteTaskRequest { task_id: task.id.clone(), ..unset() };
    assert_eq!(reason(client.complete_task(by_hand(&tasks[1])).await), Reason::WrongStatus);
    client.complete_task(by_hand(&tasks[0])).await.unwrap();
    client.complete_task(by_hand(&tasks[1])).await.unwrap();
}

#[tokio::test]
async fn task_goes_to_an_agent_with_its_capabilities() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let required_capabilities = vec!["rust".into(), "gpu".into()];
    add_tasks(client, &run.id, vec![TaskDraft { required_capabilities, ..draft("special") }, draft("plain")]).await;
    let with = |capabilities: &[&str]| {
        let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
        let request = ClaimTaskRequest { capabilities, ..claim_request(&run.id, "agent") };
        async { client.claim_task(request).await.unwrap().claim.map(|claim| claim.task.unwrap().title) }
    };
    assert_eq!(with(&["rust"]).await.as_deref(), Some("plain"));
    assert_eq!(with(&["rust"]).await, None);
    assert_eq!(with(&["gpu", "rust", "more"]).await.as_deref(), Some("special"));
}

#[tokio::test]
async fn task_is_not_claimable_before_its_not_before_time() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let time = prost_types::Timestamp { seconds: 1_800_000_060, nanos: 1_500 };
    let task = add_task(client, &run.id, TaskDraft { not_before_time: Some(time), ..draft("t") }).await;
    assert_eq!(task.not_before_time.unwrap().nanos, 1_000, "times are stored in microseconds");
    server.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(claim(client, &run.id).await, None);
    server.clock.advance(std::time::Duration::from_micros(1));
    assert!(claim(client, &run.id).await.is_some());
}

#[tokio::test]
async fn claim_over_all_runs_picks_the_run_served_least_recently() {
    let server = TestServer::start().await;
    let client = &server.client;
    let runs = [new_run(client).await.id, new_run(client).await.id];
    for run_id in &runs {
        add_tasks(client, run_id, vec![draft("t"); 3]).await;
    }
    let mut served = Vec::new();
    while let Some(claim) = claim(client, "").await {
        served.push(claim.task.unwrap().run_id);
    }
    assert_eq!(served, [&runs[0], &runs[1]].repeat(3).into_iter().cloned().collect::<Vec<_>>());
}

/// The run with the highest priority may have no task of that priority for this agent.
#[tokio::test]
async fn claim_over_all_runs_compares_priorities_of_claimable_tasks() {
    let server = TestServer::start().await;
    let client = &server.client;
    let of = |title: &str, priority, needed: &[&str]| TaskDraft {
        priority,
        required_capabilities: needed.iter().map(ToString::to_string).collect(),
        ..draft(title)
    };
    let runs = [
        vec![of("for others", 9, &["gpu"]), of("third", 1, &[])],
        vec![of("first", 5, &[]), of("last", 0, &[])],
        vec![of("second", 4, &[])],
    ];
    for tasks in runs {
        add_tasks(client, &new_run(client).await.id, tasks).await;
    }
    let mut titles = Vec::new();
    while let Some(claim) = claim(client, "").await {
        titles.push(claim.task.unwrap().title);
    }
    assert_eq!(titles, ["first", "second", "third", "last"]);
}

#[tokio::test]
async fn stale_token_is_rejected_with_details_and_logged() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let old = claim(client, &run.id).await.unwrap();
    client
        .requeue_in_progress_tasks(RequeueInProgressTasksRequest { run_id: run.id.clone(), ..unset() })
        .await
        .unwrap();
    let new = claim(client, &run.id).await.unwrap();
    assert_eq!(new.attempt_number, 2);
    let before = get_task(client, &task.id).await;

    let token = Some(old.lease_token.clone());
    let block = BlockTaskRequest { task_id: task.id.clone(), lease_token: token.clone(), ..unset() };
    let abandon = AbandonTaskRequest { task_id: task.id.clone(), lease_token: token, ..unset() };
    let refusals = [
        client.complete_task(completion(&old)).await.unwrap_err(),
        client.block_task(block).await.unwrap_err(),
        client.abandon_task(abandon).await.unwrap_err(),
    ];
    for refusal in refusals {
        let Error::Refused { reason, metadata, .. } = refusal else { panic!("{refusal:?}") };
        assert_eq!(reason, Reason::StaleLease);
        assert_eq!((&*metadata["attempt_number"], &*metadata["current_attempt_number"]), ("1", "2"));
        assert_eq!(metadata["current_status"], "TASK_STATUS_IN_PROGRESS");
    }
    assert_eq!(get_task(client, &task.id).await, before);
    let log = log(client, &run.id).await;
    let rejected: Vec<_> = log.iter().filter(|event| event.kind == "stale_write_rejected").collect();
    let calls: Vec<_> = rejected.iter().map(|event| json(&event.payload)["call"].clone()).collect();
    assert_eq!(calls, ["CompleteTask", "BlockTask", "AbandonTask"]);
    assert_eq!(json(&rejected[0].payload)["agentId"], "agent");
    complete(client, &new).await;
}

#[tokio::test]
async fn unknown_token_is_stale() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let request = CompleteTaskRequest { task_id: task.id, lease_token: Some("made up".into()), ..unset() };
    assert_eq!(reason(client.complete_task(request).await), Reason::StaleLease);
}

#[tokio::test]
async fn lease_token_appears_only_in_its_claim() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    let held = claim(client, &run.id).await.unwrap();
    let stale = CompleteTaskRequest { lease_token: Some("other".into()), ..completion(&held) };
    client.complete_task(stale).await.unwrap_err();
    let request = GetRunSnapshotRequest { run_id: run.id.clone(), ..unset() };
    let snapshot = client.get_run_snapshot(request).await.unwrap();
    assert!(!format!("{snapshot:?}").contains(&held.lease_token));
    assert!(!format!("{:?}", log(client, &run.id).await).contains(&held.lease_token));
}

#[tokio::test]
async fn attempt_opens_with_the_claim_and_closes_with_its_completion() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let latest = || async {
        let request = GetLatestTaskAttemptRequest { task_id: task.id.clone() };
        client.get_latest_task_attempt(request).await.unwrap().attempt.unwrap()
    };
    let held = claim(client, &run.id).await.unwrap();
    let open = latest().await;
    assert_eq!((open.status(), open.attempt_number, open.end_time), (AttemptStatus::Running, 1, None));
    assert_eq!(open.agent_id.as_deref(), Some("agent"));
    let result = value(serde_json::json!({ "lines": 3 }));
    client.complete_task(CompleteTaskRequest { result, ..completion(&held) }).await.unwrap();
    let closed = latest().await;
    assert_eq!((&closed.id, closed.status(), &*closed.summary), (&open.id, AttemptStatus::Completed, "done"));
    assert_eq!(json(&closed.result), serde_json::json!({ "lines": 3 }));
    assert!(closed.end_time.is_some());
    let last = log(client, &run.id).await.pop().unwrap();
    let payload = json(&last.payload);
    assert_eq!((&payload["attemptNumber"], &payload["result"]["lines"]), (&1.into(), &3.into()));
}

/// RecordTaskAttempt updates a claimed attempt. The call that ends the claim overwrites only the fields that it sets.
#[tokio::test]
async fn recorded_attempt_updates_the_attempt_with_its_number() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let held = claim(client, &run.id).await.unwrap();
    let report = |attempt_number: i32| RecordTaskAttemptRequest {
        run_id: run.id.clone(),
        task_id: task.id.clone(),
        attempt_number,
        status: AttemptStatus::Failed.into(),
        summary: "tests are red".into(),
        ..unset()
    };
    let filled = client.record_task_attempt(report(1)).await.unwrap().attempt.unwrap();
    assert_eq!((filled.agent_id.as_deref(), filled.summary.as_str()), (Some("agent"), "tests are red"));
    let after = get_task(client, &task.id).await;
    assert_eq!((after.status(), after.failure_count, after.revision), (TaskStatus::InProgress, 0, 2));
    client.record_task_attempt(report(2)).await.unwrap();
    let result = value(serde_json::json!("kept"));
    client.record_task_attempt(RecordTaskAttemptRequest { result, ..report(1) }).await.unwrap();
    complete(client, &held).await;
    let list = ListTaskAttemptsRequest { task_id: task.id.clone(), ..unset() };
    let attempts = client.list_task_attempts(list).await.unwrap().attempts;
    let seen: Vec<_> = attempts.iter().map(|a| (a.attempt_number, a.status(), a.summary.as_str())).collect();
    assert_eq!(seen, [(1, AttemptStatus::Completed, "done"), (2, AttemptStatus::Failed, "tests are red")]);
    assert_eq!(json(&attempts[0].result), "kept", "the completion had no result");
}

#[tokio::test]
async fn completed_task_is_final() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;
    let complete = CompleteTaskRequest { task_id: task.id.clone(), ..unset() };
    assert_eq!(reason(client.complete_task(complete).await), Reason::WrongStatus);
    let block = BlockTaskRequest { task_id: task.id.clone(), ..unset() };
    assert_eq!(reason(client.block_task(block).await), Reason::WrongStatus);
    let abandon = AbandonTaskRequest { task_id: task.id.clone(), ..unset() };
    assert_eq!(reason(client.abandon_task(abandon).await), Reason::WrongStatus);
    assert_eq!(get_task(client, &task.id).await.status(), TaskStatus::Completed);
}

/// When an operator ends a live claim, the holder's report is stale.
#[tokio::test]
async fn operator_can_abandon_a_held_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let held = claim(client, &run.id).await.unwrap();
    client.abandon_task(AbandonTaskRequest { task_id: task.id.clone(), ..unset() }).await.unwrap();
    assert_eq!(reason(client.complete_task(completion(&held)).await), Reason::StaleLease);
    let latest = GetLatestTaskAttemptRequest { task_id: task.id };
    let attempt = client.get_latest_task_attempt(latest).await.unwrap().attempt.unwrap();
    assert_eq!(attempt.status(), AttemptStatus::Abandoned);
}
