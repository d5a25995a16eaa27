//! Short forms of common calls.

use std::collections::BTreeMap;

use runhub_client::v1::*;
use runhub_client::{Client, Error, Json, Reason};

/// Returns a message with all fields unset.
pub fn unset<T: Default>() -> T {
    T::default()
}

pub async fn new_run(client: &Client) -> Run {
    new_run_in(client, "/repo").await
}

pub async fn new_run_in(client: &Client, repo_path: &str) -> Run {
    let request = CreateRunRequest { goal: "goal".into(), repo_path: repo_path.into(), ..unset() };
    client.create_run(request).await.unwrap().run.unwrap()
}

pub fn draft(title: &str) -> TaskDraft {
    TaskDraft { title: title.into(), ..unset() }
}

/// Returns a draft with its dependencies and with a key by which other drafts can depend on it.
pub fn keyed(key: &str, depends_on: &[&str]) -> TaskDraft {
    let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
    TaskDraft { key: key.into(), title: key.into(), depends_on, ..unset() }
}

pub async fn add_tasks(client: &Client, run_id: &str, tasks: Vec<TaskDraft>) -> Vec<Task> {
    client.add_tasks(AddTasksRequest { run_id: run_id.into(), tasks, ..unset() }).await.unwrap().tasks
}

pub async fn add_task(client: &Client, run_id: &str, draft: TaskDraft) -> Task {
    add_tasks(client, run_id, vec![draft]).await.remove(0)
}

pub async fn get_run(client: &Client, run_id: &str) -> Run {
    client.get_run(GetRunRequest { run_id: run_id.into() }).await.unwrap().run.unwrap()
}

pub async fn get_task(client: &Client, task_id: &str) -> Task {
    client.get_task(GetTaskRequest { task_id: task_id.into() }).await.unwrap().task.unwrap()
}

/// Returns all tasks of a run by their ids.
pub async fn tasks_of(client: &Client, run_id: &str) -> BTreeMap<String, Task> {
    let mut tasks = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListTasksRequest { run_id: run_id.into(), page_size: 1_000, page_token, ..unset() };
        let page = client.list_tasks(request).await.unwrap();
        tasks.extend(page.tasks.into_iter().map(|task| (task.id.clone(), task)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return tasks;
        }
    }
}

pub fn claim_request(run_id: &str, agent_id: &str) -> ClaimTaskRequest {
    ClaimTaskRequest { run_id: run_id.into(), agent_id: agent_id.into(), ..unset() }
}

pub async fn claim(client: &Client, run_id: &str) -> Option<Claim> {
    client.claim_task(claim_request(run_id, "agent")).await.unwrap().claim
}

/// Returns the id of the claimed task.
pub fn task_id(claim: &Claim) -> String {
    claim.task.as_ref().unwrap().id.clone()
}

pub fn completion(claim: &Claim) -> CompleteTaskRequest {
    let lease_token = Some(claim.lease_token.clone());
    CompleteTaskRequest { task_id: task_id(claim), lease_token, summary: "done".into(), ..unset() }
}

pub async fn complete(client: &Client, claim: &Claim) -> Task {
    client.complete_task(completion(claim)).await.unwrap().task.unwrap()
}

pub async fn set_status(client: &Client, run_id: &str, status: RunStatus) -> Run {
    let request = UpdateRunRequest { run_id: run_id.into(), status: Some(status.into()), ..unset() };
    client.update_run(request).await.unwrap().run.unwrap()
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Claims a task with a lease of `lease` seconds.
pub async fn claim_for(client: &Client, run_id: &str, agent_id: &str, lease: i64) -> Option<Claim> {
    let request = ClaimTaskRequest { lease_duration: seconds(lease), ..claim_request(run_id, agent_id) };
    client.claim_task(request).await.unwrap().claim
}

pub fn failure(claim: &Claim) -> FailTaskRequest {
    FailTaskRequest { task_id: task_id(claim), lease_token: claim.lease_token.clone(), ..unset() }
}

pub async fn fail(client: &Client, claim: &Claim) -> Task {
    client.fail_task(failure(claim)).await.unwrap().task.unwrap()
}

pub async fn release(client: &Client, claim: &Claim) -> Result<Task, Error> {
    let request = ReleaseTaskRequest { task_id: task_id(claim), lease_token: claim.lease_token.clone(), ..unset() };
    Ok(client.release_task(request).await?.task.unwrap())
}

pub async fn requeue(client: &Client, task_id: &str) -> Result<Task, Error> {
    let request = RequeueTaskRequest { task_id: task_id.into(), ..unset() };
    Ok(client.requeue_task(request).await?.task.unwrap())
}

pub async fn abandon(client: &Client, task_id: &str) -> Task {
    client.abandon_task(AbandonTaskRequest { task_id: task_id.into(), ..unset() }).await.unwrap().task.unwrap()
}

/// Sends a heartbeat for one lease and returns its result.
pub async fn beat(client: &Client, claim: &Claim) -> BeatResult {
    let beats = vec![Beat { lease_token: claim.lease_token.clone(), ..unset() }];
    client.heartbeat(HeartbeatRequest { beats, ..unset() }).await.unwrap().results.remove(0)
}

pub async fn latest_attempt(client: &Client, task_id: &str) -> TaskAttempt {
    let request = GetLatestTaskAttemptRequest { task_id: task_id.into() };
    client.get_latest_task_attempt(request).await.unwrap().attempt.unwrap()
}

pub async fn explain(client: &Client, task_id: &str) -> ExplainTaskResponse {
    client.explain_task(ExplainTaskRequest { task_id: task_id.into() }).await.unwrap()
}

/// Requests an approval that never expires.
pub async fn request_approval(client: &Client, run_id: &str, subject_digest: &str) -> Approval {
    let run_id = run_id.into();
    let title = "may I?".into();
    let subject_digest = subject_digest.into();
    let request = RequestApprovalRequest { run_id, title, subject_digest, ..unset() };
    client.request_approval(request).await.unwrap().approval.unwrap()
}

pub async fn decide(client: &Client, approval_id: &str, verdict: ApprovalVerdict) -> Result<Approval, Error> {
    let approval_id = approval_id.into();
    let source = "human".into();
    let verdict = verdict.into();
    let request = DecideApprovalRequest { approval_id, source, verdict, ..unset() };
    Ok(client.decide_approval(request).await?.approval.unwrap())
}

pub async fn get_approval(client: &Client, approval_id: &str) -> Approval {
    let request = GetApprovalRequest { approval_id: approval_id.into() };
    client.get_approval(request).await.unwrap().approval.unwrap()
}

pub fn event(kind: &str) -> EventDraft {
    EventDraft { source: "test".into(), kind: kind.into(), ..unset() }
}

pub async fn append(client: &Client, run_id: &str, events: Vec<EventDraft>) -> AppendEventsResponse {
    client.append_events(AppendEventsRequest { run_id: run_id.into(), events, ..unset() }).await.unwrap()
}

/// Returns the whole log of a run, or of all runs for an empty id.
pub async fn log(client: &Client, run_id: &str) -> Vec<Event> {
    let mut log = Vec::new();
    let mut after = 0;
    loop {
        let request = ListEventsRequest { run_id: run_id.into(), after_position: Some(after), limit: 1000, ..unset() };
        let page = client.list_events(request).await.unwrap();
        if page.events.is_empty() {
            return log;
        }
        assert!(page.next_position > after, "the cursor does not move past {after}");
        after = page.next_position;
        log.extend(page.events);
    }
}

/// Waits until the log of a run has `count` events of a kind. Returns the last of them.
pub async fn until_logged(client: &Client, run_id: &str, kind: &str, count: usize) -> Event {
    super::until(|| async { kinds(client, run_id).await.iter().filter(|one| *one == kind).count() >= count }).await;
    log(client, run_id).await.into_iter().filter(|event| event.kind == kind).nth(count - 1).unwrap()
}

pub async fn kinds(client: &Client, run_id: &str) -> Vec<String> {
    log(client, run_id).await.into_iter().map(|event| event.kind).collect()
}

/// Converts JSON to a protobuf value.
pub fn value(json: serde_json::Value) -> Option<prost_types::Value> {
    Some(Json::parse(&json.to_string()).unwrap())
}

/// Converts a protobuf value to JSON.
pub fn json(value: &Option<prost_types::Value>) -> serde_json::Value {
    serde_json::to_value(Json(value.as_ref().unwrap())).unwrap()
}

/// Returns the reason of a refusal. Fails on any other result.
pub fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> Reason {
    result.unwrap_err().reason().expect("a refusal").clone()
}
