//! A small orchestrator: a plan, three roles (strategy, implementation, checker), the checker's approval, a checkpoint.
//! With a server running: `cargo run --release -p runhub-client --example orchestrator`.
#![allow(clippy::print_stdout)] // An example prints.

use std::time::Duration;

use runhub_client::{Client, Json, Update, v1::*};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let server = std::env::var("RUNHUB_SERVER").unwrap_or_else(|_| "127.0.0.1:50051".to_owned());
    let hub = &Client::connect(&server).await?;
    let request = CreateRunRequest { goal: "Ship the parser".into(), repo_path: "/repo".into(), ..Default::default() };
    let run = &hub.create_run(request).await?.run.unwrap_or_default().id;
    let (_, _, done) = tokio::try_join!(watch(hub, run), check(hub, run), orchestrate(hub, run))?;
    println!("run {run}: {done} tasks done");
    Ok(())
}

async fn orchestrate(hub: &Client, run: &str) -> Result<usize> {
    plan(hub, run).await?;
    let (ours, theirs) = tokio::try_join!(implement(hub, run, "agent 1"), implement(hub, run, "agent 2"))?;
    let done = [ours, theirs].concat();
    let digest = format!("sha256:{:x}", Sha256::digest(done.join("\n")));
    let (title, requested_by, subject_digest) = ("Ship it?".into(), "implementation".into(), digest.clone());
    let ask = RequestApprovalRequest { run_id: run.into(), title, requested_by, subject_digest, ..Default::default() };
    let (ttl, wait) = (Some(Duration::from_secs(60).try_into()?), Some(Duration::from_secs(30).try_into()?));
    let approval_id =
        hub.request_approval(RequestApprovalRequest { ttl, ..ask }).await?.approval.unwrap_or_default().id;
    hub.wait_approval(WaitApprovalRequest { approval_id: approval_id.clone(), wait }).await?;
    // Refused with NOT_APPROVED unless the checker said yes.
    hub.consume_approval(ConsumeApprovalRequest { approval_id, subject_digest: digest, ..Default::default() }).await?;
    let payload = Some(Json::parse(&format!(r#"{{"tasks": {}}}"#, done.len()))?);
    let status = RunStatus::Completed.into();
    let saved = CreateCheckpointRequest { run_id: run.into(), status, payload, ..Default::default() };
    hub.create_checkpoint(saved).await?;
    hub.update_run(UpdateRunRequest { run_id: run.into(), status: Some(status), ..Default::default() }).await?;
    Ok(done.len())
}

async fn plan(hub: &Client, run: &str) -> Result<()> {
    let state = AgentState { run_id: run.into(), role: "strategy".into(), turns: 1, ..Default::default() };
    hub.save_agent_state(SaveAgentStateRequest { state: Some(state), ..Default::default() }).await?;
    let first = TaskDraft { key: "parser".into(), title: "Write the parser".into(), ..Default::default() };
    let then = |title: &str| TaskDraft { title: title.into(), depends_on: vec!["parser".into()], ..Default::default() };
    let (tasks, status) = (vec![first, then("Print errors"), then("Document it")], Some(RunStatus::Running.into()));
    hub.add_tasks(AddTasksRequest { run_id: run.into(), tasks, ..Default::default() }).await?;
    hub.update_run(UpdateRunRequest { run_id: run.into(), status, ..Default::default() }).await?;
    Ok(())
}

/// One agent, until nothing is pending; returns the summaries of what it did.
async fn implement(hub: &Client, run: &str, agent_id: &str) -> Result<Vec<String>> {
    let (agent_id, wait, mut done) = (agent_id.to_owned(), Some(Duration::from_secs(1).try_into()?), Vec::new());
    let ask = ClaimTaskRequest { run_id: run.into(), agent_id, wait, ..Default::default() };
    loop {
        let answer = hub.claim_task(ask.clone()).await?;
        let claim = match (answer.claim, answer.unclaimable.unwrap_or_default().pending) {
            (Some(claim), _) => claim,
            (None, 0) => return Ok(done),
            (None, _) => continue,
        };
        let lease = hub.keep_lease(&claim);
        lease.progress(Json::parse(r#"{"percent": 50}"#)?);
        lease.run(tokio::time::sleep(Duration::from_millis(50))).await?;
        let (task, lease_token) = (claim.task.unwrap_or_default(), Some(claim.lease_token));
        let (summary, result) = (format!("{}: done", task.title), Some(Json::parse(r#"{"lines": 120}"#)?));
        let report = CompleteTaskRequest { task_id: task.id, lease_token, summary, result, ..Default::default() };
        done.extend(hub.complete_task(report).await?.task.and_then(|task| task.implementation_summary));
    }
}

/// The checker: decides what it is asked first, for just what it was shown.
async fn check(hub: &Client, run: &str) -> Result<()> {
    let kinds = vec!["approval_requested".to_owned()];
    let mut asked = hub.subscribe(SubscribeEventsRequest { run_id: run.into(), kinds, ..Default::default() });
    while !matches!(asked.next().await.transpose()?, Some(Update::Event(_)) | None) {}
    let ask = ListApprovalsRequest { run_id: run.into(), ..Default::default() };
    let approval = hub.list_approvals(ask).await?.approvals.remove(0);
    let (source, verdict) = ("checker".into(), ApprovalVerdict::Approved.into());
    let said = DecideApprovalRequest { approval_id: approval.id, source, verdict, ..Default::default() };
    let (rationale, expected_subject_digest) = ("All tasks are done".into(), Some(approval.subject_digest));
    hub.decide_approval(DecideApprovalRequest { rationale, expected_subject_digest, ..said }).await?;
    Ok(())
}

/// Prints what happens, until the run has ended.
async fn watch(hub: &Client, run: &str) -> Result<()> {
    let mut updates = hub.subscribe(SubscribeEventsRequest { run_id: run.into(), ..Default::default() });
    while let Some(update) = updates.next().await {
        if let Update::Event(event) = update? {
            println!("{} {} {}", event.seq, event.kind, event.message);
        }
    }
    Ok(())
}
