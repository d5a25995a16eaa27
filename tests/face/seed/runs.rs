//! Runs, agents and the snapshot.

use std::time::Duration;

use runhub_client::Reason;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

#[tokio::test]
async fn create_run() {
    let server = TestServer::start().await;
    let request = CreateRunRequest { goal: "ship it".into(), repo_path: "/repo".into(), ..unset() };
    let run = server.client.create_run(request).await.unwrap().run.unwrap();
    assert_eq!((run.goal.as_str(), run.repo_path.as_str()), ("ship it", "/repo"));
    assert_eq!(run.status(), RunStatus::Planning);
    assert_eq!((run.summary, run.current_task_id), (None, None));
    assert_eq!((run.cycle_count, run.replan_count), (0, 0));
    assert_eq!(run.create_time, run.update_time);

    // One of the two events that the class wrote by itself, verbatim.
    let log = log(&server.client, &run.id).await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].source.as_str(), log[0].kind.as_str()), ("system", "run_created"));
    assert_eq!(log[0].message, "Run created.");
    assert_eq!(json(&log[0].payload), serde_json::json!({ "goal": "ship it", "repoPath": "/repo" }));
}

#[tokio::test]
async fn get_run() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    assert_eq!(crate::support::calls::get_run(&server.client, &run.id).await, run);
    let missing = server.client.get_run(GetRunRequest { run_id: "nope".into() }).await;
    assert_eq!(reason(missing), Reason::RunNotFound);
}

/// Lists the newest first. The class ordered by created_at, where runs of one millisecond tie. Here they never tie.
#[tokio::test]
async fn list_runs() {
    let server = TestServer::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(new_run(&server.client).await.id);
    }
    made.reverse();
    let runs = server.client.list_runs(unset()).await.unwrap().runs;
    assert_eq!(runs.into_iter().map(|run| run.id).collect::<Vec<_>>(), made);
}

/// Set fields change and unset fields stay. The class could not clear a summary (`??` kept it); a mask can.
#[tokio::test]
async fn update_run() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    server.clock.advance(Duration::from_secs(1));
    let change = UpdateRunRequest {
        run_id: run.id.clone(),
        status: Some(RunStatus::Running.into()),
        summary: Some("so far".into()),
        current_task_id: Some(task.id.clone()),
        ..unset()
    };
    let changed = server.client.update_run(change).await.unwrap().run.unwrap();
    assert_eq!(changed.status(), RunStatus::Running);
    assert_eq!((changed.summary.as_deref(), changed.current_task_id.as_deref()), (Some("so far"), Some(&*task.id)));
    assert_eq!(changed.create_time, run.create_time);
    assert!(changed.update_time.unwrap().seconds > run.update_time.unwrap().seconds);

    let done = set_status(&server.client, &run.id, RunStatus::Completed).await;
    assert_eq!((done.summary, done.current_task_id), (changed.summary, changed.current_task_id));

    let mask = prost_types::FieldMask { paths: vec!["current_task_id".into()] };
    let clear = UpdateRunRequest { run_id: run.id.clone(), update_mask: Some(mask), ..unset() };
    let cleared = server.client.update_run(clear).await.unwrap().run.unwrap();
    assert_eq!((cleared.current_task_id.as_deref(), cleared.summary.as_deref()), (None, Some("so far")));
    assert_eq!(cleared.status(), RunStatus::Completed);
}

#[tokio::test]
async fn increment_cycle() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    for expected in 1..=3 {
        let request = IncrementCycleRequest { run_id: run.id.clone(), ..unset() };
        let run = server.client.increment_cycle(request).await.unwrap().run.unwrap();
        assert_eq!((run.cycle_count, run.replan_count), (expected, 0));
    }
}

/// The class could lose concurrent increments. Here all of them count.
#[tokio::test]
async fn increment_replan_count() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let calls = (0..20).map(|_| {
        let client = server.client.clone();
        let run_id = run.id.clone();
        tokio::spawn(async move { client.increment_replan(IncrementReplanRequest { run_id, ..unset() }).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    let run = crate::support::calls::get_run(&server.client, &run.id).await;
    assert_eq!((run.replan_count, run.cycle_count, run.plan_version), (20, 0, 0));
}

fn state(run_id: &str, role: &str) -> AgentState {
    AgentState {
        run_id: run_id.into(),
        role: role.into(),
        session_id: Some("session".into()),
        turns: 3,
        rotation_count: 1,
        last_prompt_path: Some("prompt.md".into()),
        last_response_path: None,
        ..unset()
    }
}

#[tokio::test]
async fn get_agent_state() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = GetAgentStateRequest { run_id: run.id.clone(), role: "checker".into() };
    assert_eq!(server.client.get_agent_state(request.clone()).await.unwrap().state, None);
    let save = SaveAgentStateRequest { state: Some(state(&run.id, "checker")), ..unset() };
    let saved = server.client.save_agent_state(save).await.unwrap().state;
    assert_eq!(server.client.get_agent_state(request).await.unwrap().state, saved);
}

/// Upserts by run and role. The server sets the time, which the class took from the caller.
#[tokio::test]
async fn save_agent_state() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let save = |state: AgentState| {
        let request = SaveAgentStateRequest { state: Some(state), ..unset() };
        async { server.client.save_agent_state(request).await.unwrap().state.unwrap() }
    };
    let first = save(state(&run.id, "strategy")).await;
    assert_eq!((first.turns, first.last_prompt_path.as_deref(), first.revision), (3, Some("prompt.md"), 1));
    let next = AgentState { turns: 4, session_id: None, revision: 77, ..state(&run.id, "strategy") };
    let next = save(next).await;
    assert_eq!((next.turns, next.session_id, next.revision), (4, None, 2));
    save(state(&run.id, "checker")).await;
    let list = ListAgentStatesRequest { run_id: run.id };
    let roles: Vec<_> =
        server.client.list_agent_states(list).await.unwrap().states.into_iter().map(|s| s.role).collect();
    assert_eq!(roles, ["checker", "strategy"]);
}

/// Checks which statuses land in which list, and the default limits of 50 events and 12 attempts.
#[tokio::test]
async fn build_snapshot() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let titles = ["completed", "blocked", "abandoned", "held", "pending"];
    let tasks = add_tasks(client, &run.id, titles.map(draft).to_vec()).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;
    client.block_task(BlockTaskRequest { task_id: tasks[1].id.clone(), ..unset() }).await.unwrap();
    client.abandon_task(AbandonTaskRequest { task_id: tasks[2].id.clone(), ..unset() }).await.unwrap();
    claim(client, &run.id).await.unwrap();
    for number in 1..=20 {
        let status = AttemptStatus::Failed.into();
        let attempt = RecordTaskAttemptRequest {
            run_id: run.id.clone(),
            task_id: tasks[4].id.clone(),
            attempt_number: number,
            status,
            ..unset()
        };
        client.record_task_attempt(attempt).await.unwrap();
    }
    append(client, &run.id, (0..60).map(|at| event(&format!("e{at}"))).collect()).await;

    let request = GetRunSnapshotRequest { run_id: run.id.clone(), ..unset() };
    let snapshot = client.get_run_snapshot(request).await.unwrap().snapshot.unwrap();
    let listed = |tasks: &[Task]| tasks.iter().map(|task| task.title.clone()).collect::<Vec<_>>();
    assert_eq!(listed(&snapshot.pending_tasks), ["pending"]);
    assert_eq!(listed(&snapshot.in_progress_tasks), ["held"]);
    assert_eq!(listed(&snapshot.completed_tasks), ["completed"]);
    assert_eq!(listed(&snapshot.blocked_tasks), ["blocked", "abandoned"]);
    let numbers: Vec<_> = snapshot.recent_attempts.iter().map(|attempt| attempt.attempt_number).collect();
    assert_eq!(numbers, (9..=20).collect::<Vec<_>>());
    let kinds: Vec<_> = snapshot.recent_events.iter().map(|event| event.kind.clone()).collect();
    assert_eq!(kinds, (10..60).map(|at| format!("e{at}")).collect::<Vec<_>>());
    assert_eq!(snapshot.position, snapshot.recent_events.last().unwrap().position);
    assert_eq!(snapshot.run.unwrap().id, run.id);
}
