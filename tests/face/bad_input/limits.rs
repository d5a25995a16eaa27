//! Values that are too large, too deeply nested, or not a number.

use runhub_client::v1::*;

use super::{Case, Expected, World, case, field};
use crate::support::calls::*;

pub fn all(world: &World) -> Vec<Case> {
    [values(world), texts(world), requests(world)].into_iter().flatten().collect()
}

/// Every JSON field, with each kind of value that it must not have.
fn values(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let nested = (0..25).fold(prost_types::Value::default(), |inner, _| prost_types::Value::from(vec![inner]));
    let bad = [
        ("1 MiB + 1 byte", prost_types::Value::from("x".repeat(1024 * 1024 + 1))),
        ("25 levels", nested),
        ("NaN", prost_types::Value::from(f64::NAN)),
        ("infinity", prost_types::Value::from(f64::NEG_INFINITY)),
    ];
    for (what, value) in bad {
        let run_id = world.run.clone();
        let value = Some(value);
        let events = vec![event("k"), EventDraft { payload: value.clone(), ..event("k") }];
        let request = AppendEventsRequest { run_id: run_id.clone(), events, ..unset() };
        case!(cases, client, append_events, what, request, field("events[1].payload"));
        let task_id = world.task.clone();
        let result = value.clone();
        let request = CompleteTaskRequest { task_id: task_id.clone(), result: result.clone(), ..unset() };
        case!(cases, client, complete_task, what, request, field("result"));
        let request = RecordTaskAttemptRequest { run_id: run_id.clone(), task_id, status: 3, result, ..unset() };
        case!(cases, client, record_task_attempt, what, request, field("result"));
        let source = "human".to_owned();
        let verdict = 2;
        let payload = value.clone();
        let request = RecordApprovalRequest { run_id: run_id.clone(), source, verdict, payload, ..unset() };
        case!(cases, client, record_approval, what, request, field("payload"));
        let request = CreateCheckpointRequest { run_id: run_id.clone(), status: 1, payload: value.clone(), ..unset() };
        case!(cases, client, create_checkpoint, what, request, field("payload"));
        let kind = "k".to_owned();
        let path = "p".to_owned();
        let metadata = value;
        let request = CreateArtifactRequest { run_id, kind, path, metadata, ..unset() };
        case!(cases, client, create_artifact, what, request, field("metadata"));
    }
    cases
}

fn texts(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let text = "x".repeat(64 * 1024 + 1);
    let path = "x".repeat(4097);
    let name = "x".repeat(257);
    let create = CreateRunRequest { goal: "g".into(), repo_path: "r".into(), ..unset() };
    let request = CreateRunRequest { goal: text.clone(), ..create.clone() };
    case!(cases, client, create_run, "a long goal", request, field("goal"));
    let request = CreateRunRequest { repo_path: path.clone(), ..create.clone() };
    case!(cases, client, create_run, "a long path", request, field("repo_path"));
    let labels = [(name.clone(), String::new())].into();
    case!(cases, client, create_run, "a long label", CreateRunRequest { labels, ..create.clone() }, field("labels"));
    let labels = [("k".into(), "x".repeat(1025))].into();
    let request = CreateRunRequest { labels, ..create.clone() };
    case!(cases, client, create_run, "a long label value", request, field("labels"));
    let labels = (0..65).map(|at| (at.to_string(), String::new())).collect();
    case!(cases, client, create_run, "65 labels", CreateRunRequest { labels, ..create }, field("labels"));
    let request = UpdateRunRequest { run_id: world.run.clone(), summary: Some(text.clone()), ..unset() };
    case!(cases, client, update_run, "a long summary", request, field("summary"));
    let request = claim_request(&world.run, &name);
    case!(cases, client, claim_task, "a long agent_id", request, field("agent_id"));
    let capabilities = vec![String::from("c"); 257];
    let request = ClaimTaskRequest { capabilities, ..claim_request(&world.run, "a") };
    case!(cases, client, claim_task, "257 capabilities", request, field("capabilities"));
    let add = |draft: TaskDraft| AddTasksRequest { run_id: world.run.clone(), tasks: vec![draft], ..unset() };
    let request = add(TaskDraft { objective: text.clone(), ..draft("t") });
    case!(cases, client, add_tasks, "a long objective", request, field("tasks[0].objective"));
    let request = add(TaskDraft { acceptance_criteria: vec![String::from("c"); 257], ..draft("t") });
    case!(cases, client, add_tasks, "257 criteria", request, field("tasks[0].acceptance_criteria"));
    let request = add(TaskDraft { allowed_paths: vec![path], ..draft("t") });
    case!(cases, client, add_tasks, "a long path", request, field("tasks[0].allowed_paths[0]"));
    let request = BlockTaskRequest { task_id: world.task.clone(), blocker_signature: Some(text), ..unset() };
    case!(cases, client, block_task, "a long signature", request, field("blocker_signature"));
    cases
}

/// A request of 5 MiB, or one that can't be decoded, never reaches a handler.
fn requests(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let summary = "x".repeat(5 * 1024 * 1024);
    let request = CompleteTaskRequest { task_id: world.task.clone(), summary, ..unset() };
    case!(cases, client, complete_task, "5 MiB", request, Expected::TooLarge);
    let events = vec![EventDraft { message: "x".repeat(5 * 1024 * 1024), ..event("k") }];
    let request = AppendEventsRequest { run_id: world.run.clone(), events, ..unset() };
    case!(cases, client, append_events, "5 MiB", request, Expected::TooLarge);
    let nested = (0..100).fold(prost_types::Value::default(), |inner, _| prost_types::Value::from(vec![inner]));
    let beats = vec![Beat { lease_token: "x".into(), progress: Some(nested) }];
    case!(cases, client, heartbeat, "100 levels", HeartbeatRequest { beats, ..unset() }, field("request"));
    cases
}
