//! This orchestrator needs a running server: `cargo run --release -p runhub-client --example orchestrator`.
#![allow(clippy::print_stdout)] // An example prints.

use runhub_client::{Client, Json, Update, v1::*};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, sleep};

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
    let (first, second) = tokio::try_join!(implement(hub, run, "agent 1"), implement(hub, run, "agent 2"))?;
    let done = [first, second].concat();
    let digest = format!("sha256:{:x}", Sha256::digest(done.join("\n")));
    let mut request = RequestApprovalRequest { run_id: run.into(), title: "Ship it?".into(), ..Default::default() };
    request.requested_by = "implementation".into();
    request.subject_digest = digest.clone();
    request.ttl = Some(Duration::from_secs(60).try_into()?);
    let approval_id = hub.request_approval(request).await?.approval.unwrap_or_default().id;
    let wait = Some(Duration::from_secs(30).try_into()?);
    hub.wait_approval(WaitApprovalRequest { approval_id: approval_id.clone(), wait }).await?;
    hub.consume_approval(ConsumeApprovalRequest { approval_id, subject_digest: digest, ..Default::default() }).await?;
    let payload = Some(Json::parse(&format!(r#"{{"tasks": {}}}"#, done.len()))?);
    let status = RunStatus::Completed.into();
    hub.create_checkpoint(CreateCheckpointRequest { run_id: run.into(), status, payload, ..Default::default() })
        .await?;
    hub.update_run(UpdateRunRequest { run_id: run.into(), status: Some(status), ..Default::default() }).await?;
    Ok(done.len())
}

async fn plan(hub: &Client, run: &str) -> Result<()> {
    let state = AgentState { run_id: run.into(), role: "strategy".into(), turns: 1, ..Default::default() };
    hub.save_agent_state(SaveAgentStateRequest { state: Some(state), ..Default::default() }).await?;
    let first = TaskDraft { key: "parser".into(), title: "Write the parser".into(), ..Default::default() };
    let then = |title: &str| TaskDraft { title: title.into(), depends_on: vec!["parser".into()], ..Default::default() };
    let tasks = vec![first, then("Print errors"), then("Document it")];
    hub.add_tasks(AddTasksRequest { run_id: run.into(), tasks, ..Default::default() }).await?;
    let status = Some(RunStatus::Running.into());
    hub.update_run(UpdateRunRequest { run_id: run.into(), status, ..Default::default() }).await?;
    Ok(())
}

async fn implement(hub: &Client, run: &str, agent: &str) -> Result<Vec<String>> {
    let mut request = ClaimTaskRequest { run_id: run.into(), agent_id: agent.into(), ..Default::default() };
    request.wait = Some(Duration::from_secs(1).try_into()?);
    let mut summaries = Vec::new();
    loop {
        let answer = hub.claim_task(request.clone()).await?;
        let claim = match answer.claim {
            Some(claim) => claim,
            None if answer.unclaimable.unwrap_or_default().pending == 0 => return Ok(summaries),
            None => continue,
        };
        let lease = hub.keep_lease(&claim);
        lease.progress(Json::parse(r#"{"percent": 50}"#)?);
        lease.run(sleep(Duration::from_millis(50))).await?;
        let task = claim.task.unwrap_or_default();
        let mut report = CompleteTaskRequest { task_id: task.id, ..Default::default() };
        report.lease_token = Some(claim.lease_token);
        report.summary = format!("{}: done", task.title);
        report.result = Some(Json::parse(r#"{"lines": 120}"#)?);
        summaries.extend(hub.complete_task(report).await?.task.and_then(|task| task.implementation_summary));
    }
}

async fn check(hub: &Client, run: &str) -> Result<()> {
    let kinds = vec!["approval_requested".to_owned()];
    let mut requests = hub.subscribe(SubscribeEventsRequest { run_id: run.into(), kinds, ..Default::default() });
    while !matches!(requests.next().await.transpose()?, Some(Update::Event(_)) | None) {}
    let list = ListApprovalsRequest { run_id: run.into(), ..Default::default() };
    let approval = hub.list_approvals(list).await?.approvals.remove(0);
    let mut answer = DecideApprovalRequest { approval_id: approval.id, source: "checker".into(), ..Default::default() };
    answer.set_verdict(ApprovalVerdict::Approved);
    answer.rationale = "All tasks are done.".into();
    answer.expected_subject_digest = Some(approval.subject_digest);
    hub.decide_approval(answer).await?;
    Ok(())
}

async fn watch(hub: &Client, run: &str) -> Result<()> {
    let mut updates = hub.subscribe(SubscribeEventsRequest { run_id: run.into(), ..Default::default() });
    while let Some(update) = updates.next().await {
        if let Update::Event(event) = update? {
            println!("{} {} {}", event.seq, event.kind, event.message);
        }
    }
    Ok(())
}
