//! This module builds the server's own events. `event.proto` documents the payload of each kind. New versions may add
//! keys to a payload, but never remove or rename a key.

use serde_json::{Map, Value, json};

use super::agent::AgentState;
use super::approval::Approval;
use super::artifact::Artifact;
use super::attempt::TaskAttempt;
use super::checkpoint::Checkpoint;
use super::code::lowercase_words;
use super::event::{EventDraft, RUN_CANCELLED, RUN_DELETE_REQUESTED, RUN_DELETED, RUN_UPDATED, SYSTEM};
use super::json::Json;
use super::run::Run;
use super::task::{DEPENDENCY_ABANDONED, EndStatus, Ending, Task};
use super::time::Timestamp;
use crate::error::StaleToken;

/// Maximum length of a task title in an event, in characters. The limit keeps events small, because one event can
/// contain the titles of 1,000 tasks.
const TITLE_CHARS: usize = 200;

fn new_event(kind: &str, message: impl Into<String>, payload: Value) -> EventDraft {
    let payload = Json::from(payload);
    EventDraft { task_key: None, source: SYSTEM.to_owned(), kind: kind.to_owned(), message: message.into(), payload }
}

fn with_task(task: &Task, draft: EventDraft) -> EventDraft {
    EventDraft { task_key: Some(task.key), ..draft }
}

/// Returns the event for a new run. The kind, message and payload match the event that the TypeScript class RunStore
/// wrote for a new run.
pub fn run_created(run: &Run) -> EventDraft {
    new_event("run_created", "Run created.", json!({ "goal": run.goal, "repoPath": run.repo_path }))
}

/// Returns the event for a run that an import has created.
pub fn run_imported(run: &Run, from: &str) -> EventDraft {
    let payload = json!({ "goal": run.goal, "repoPath": run.repo_path, "importedFrom": from });
    new_event("run_created", "Run created by an import.", payload)
}

/// Returns the event for an updated run. The payload contains only the fields that differ between `before` and
/// `after`.
pub fn run_updated(before: &Run, after: &Run) -> EventDraft {
    let mut changed = Map::new();
    let mut note = |name: &str, differs: bool, value: Value| {
        if differs {
            changed.insert(name.to_owned(), value);
        }
    };
    note("status", before.status != after.status, json!(after.status.name()));
    note("statusReason", before.status_reason != after.status_reason, json!(after.status_reason));
    note("summary", before.summary != after.summary, json!(after.summary));
    note("currentTaskId", before.current_task_id != after.current_task_id, json!(after.current_task_id));
    note("cycleCount", before.cycle_count != after.cycle_count, json!(after.cycle_count));
    note("replanCount", before.replan_count != after.replan_count, json!(after.replan_count));
    new_event(RUN_UPDATED, "Run updated.", Value::Object(changed))
}

/// Returns the event for a paused run. `before` is the run before the pause.
pub fn run_paused(before: &Run, reason: &str) -> EventDraft {
    new_event("run_paused", "Run paused.", json!({ "reason": reason, "statusBefore": before.status.name() }))
}

/// Returns the event for a resumed run. `run` is the run after the resumption.
pub fn run_resumed(run: &Run, reason: &str) -> EventDraft {
    new_event("run_resumed", "Run resumed.", json!({ "reason": reason, "status": run.status.name() }))
}

/// Returns the event for a requested cancellation of a run. `run` is the run after the request.
pub fn run_cancel_requested(run: &Run, reason: &str) -> EventDraft {
    let payload = json!({ "reason": reason, "graceEndTime": run.grace_end_time.map(Timestamp::to_text) });
    new_event("run_cancel_requested", "Cancellation requested.", payload)
}

/// Returns the event for a run whose cancellation has ended.
pub fn run_cancelled(run: &Run) -> EventDraft {
    new_event(RUN_CANCELLED, "Run cancelled.", json!({ "reason": run.status_reason }))
}

/// Returns the event that remains in the log after a run is deleted.
pub fn run_deleted(run: &Run) -> EventDraft {
    new_event(RUN_DELETED, "Run deleted.", describe_deleted(run))
}

/// Returns the event for a run that the server deletes in several transactions.
pub fn run_delete_requested(run: &Run) -> EventDraft {
    new_event(RUN_DELETE_REQUESTED, "Run deletion requested.", describe_deleted(run))
}

fn describe_deleted(run: &Run) -> Value {
    json!({ "goal": run.goal, "repoPath": run.repo_path, "status": run.status.name() })
}

/// Returns the event for tasks that were added to the plan.
pub fn tasks_added(tasks: &[Task], plan_version: i32) -> EventDraft {
    let payload = json!({ "tasks": task_titles(tasks), "planVersion": plan_version });
    new_event("tasks_added", format!("{} added.", format_count(tasks.len(), "task")), payload)
}

/// Returns the event for a replaced plan. `tasks` contains the added tasks.
pub fn plan_replaced(tasks: &[Task], plan_version: i32, abandoned_count: usize) -> EventDraft {
    let payload =
        json!({ "tasks": task_titles(tasks), "planVersion": plan_version, "abandonedCount": abandoned_count });
    let message = format!("Plan replaced: {} abandoned, {} added.", format_count(abandoned_count, "task"), tasks.len());
    new_event("plan_replaced", message, payload)
}

fn task_titles(tasks: &[Task]) -> Value {
    let shown =
        |task: &Task| json!({ "id": task.id, "ordinal": task.ordinal, "title": truncate_title(&task.spec.title) });
    tasks.iter().map(shown).collect()
}

/// Returns a task title for events and obstacles, cut to `TITLE_CHARS` (200) characters.
pub fn truncate_title(title: &str) -> String {
    title.chars().take(TITLE_CHARS).collect()
}

fn format_count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Returns the event for a claimed task. `task` is the task after the claim.
pub fn task_claimed(task: &Task) -> EventDraft {
    let agent_id = task.agent_id.as_deref().unwrap_or_default();
    let message = format!("Task claimed by {agent_id}, attempt {}.", task.attempt_count);
    with_task(task, new_event("task_claimed", message, lease_payload(task)))
}

/// Returns the event for an expired lease that an agent has resumed with a heartbeat. `task` is the task after the
/// agent has resumed the lease.
pub fn lease_resumed(task: &Task) -> EventDraft {
    with_task(task, new_event("lease_resumed", "Lease resumed.", lease_payload(task)))
}

fn lease_payload(task: &Task) -> Value {
    let expire_time = task.lease.as_ref().map(|lease| lease.expire_time.to_text());
    json!({ "agentId": task.agent_id, "attemptNumber": task.attempt_count, "leaseExpireTime": expire_time })
}

/// Returns the event for an expired lease. `before` and `after` are the task before and after the expiry.
pub fn lease_expired(before: &Task, after: &Task) -> EventDraft {
    let mut payload = holder_payload(before);
    payload.insert("status".to_owned(), json!(after.status.name()));
    payload.insert("failureCount".to_owned(), json!(after.failure_count));
    payload.insert("blockerSignature".to_owned(), json!(after.blocker_signature));
    with_task(before, new_event("lease_expired", "Lease expired.", Value::Object(payload)))
}

/// Identifies the attempt that an event is about.
#[derive(Debug, Clone)]
pub struct AttemptRef {
    /// The number of the attempt among all attempts at the task.
    pub number: i32,
    /// The id of the agent that made the attempt. If the agent is unknown, the value is None.
    pub agent_id: Option<String>,
}

/// Returns the event for a task that a caller has completed, blocked, abandoned, failed or released. `after` is the
/// task after this change. `attempt` is the attempt that the caller ended, or None if the caller ended no attempt.
pub fn task_ended(after: &Task, attempt: Option<&AttemptRef>, ending: &Ending) -> EventDraft {
    let (kind, message) = match ending.to {
        EndStatus::Completed => ("task_completed", "Task completed."),
        EndStatus::Blocked => ("task_blocked", "Task blocked."),
        EndStatus::Abandoned => ("task_abandoned", "Task abandoned."),
        EndStatus::Failed => ("task_failed", "Task failed."),
        EndStatus::Released => ("task_released", "Task released."),
    };
    let (number, agent_id) = attempt.map(|attempt| (attempt.number, &attempt.agent_id)).unzip();
    let mut payload = json!({ "agentId": agent_id, "attemptNumber": number });
    match ending.to {
        EndStatus::Released => payload["reason"] = json!(ending.summary),
        _ => payload["summary"] = json!(ending.summary),
    }
    if matches!(ending.to, EndStatus::Completed | EndStatus::Failed) {
        payload["result"] = ending.result.to_value();
    }
    if matches!(ending.to, EndStatus::Blocked | EndStatus::Abandoned | EndStatus::Failed) {
        payload["blockerSignature"] = json!(ending.blocker_signature);
    }
    if matches!(ending.to, EndStatus::Failed | EndStatus::Released) {
        payload["status"] = json!(after.status.name());
    }
    if ending.to == EndStatus::Failed {
        payload["blockerSignature"] = json!(after.blocker_signature);
        payload["failureCount"] = json!(after.failure_count);
        payload["notBeforeTime"] = json!(after.spec.not_before_time.map(Timestamp::to_text));
    }
    with_task(after, new_event(kind, message, payload))
}

/// Returns the event for a task that was abandoned by a replan or by the cancellation of the run. The payload contains
/// the previous summary of the task, because no agent reported a new summary.
pub fn task_abandoned_without_report(before: &Task) -> EventDraft {
    let summary = before.implementation_summary.as_deref();
    let payload = report_payload(holder_payload(before), summary, before.blocker_signature.as_deref());
    with_task(before, new_event("task_abandoned", "Task abandoned.", payload))
}

/// Returns the event for an abandoned task that no agent held. The caller must set the task.
pub fn unleased_task_abandoned(summary: Option<&str>, blocker_signature: Option<&str>) -> EventDraft {
    let payload = report_payload(no_holder_payload(), summary, blocker_signature);
    new_event("task_abandoned", "Task abandoned.", payload)
}

/// Returns the event for a task that is blocked because of an abandoned dependency. The caller must set the task.
pub fn task_blocked_by_dependency(summary: Option<&str>) -> EventDraft {
    let payload = report_payload(no_holder_payload(), summary, Some(DEPENDENCY_ABANDONED));
    new_event("task_blocked", "Task blocked: a task it depends on was abandoned.", payload)
}

fn report_payload(mut payload: Map<String, Value>, summary: Option<&str>, blocker_signature: Option<&str>) -> Value {
    payload.insert("summary".to_owned(), json!(summary));
    payload.insert("blockerSignature".to_owned(), json!(blocker_signature));
    Value::Object(payload)
}

/// Returns the event for a requeued task. `before` is the task before the requeue.
pub fn task_requeued(before: &Task, reason: &str) -> EventDraft {
    with_task(before, new_requeue_event(holder_payload(before), reason))
}

/// Returns the event for a requeued task that no agent held. The caller must set the task.
pub fn unleased_task_requeued(reason: &str) -> EventDraft {
    new_requeue_event(no_holder_payload(), reason)
}

fn new_requeue_event(mut payload: Map<String, Value>, reason: &str) -> EventDraft {
    payload.insert("reason".to_owned(), json!(reason));
    new_event("task_requeued", "Task requeued.", Value::Object(payload))
}

/// Returns the payload entries for the agent that held the lease of a task, and for the number of the agent's attempt.
/// If no agent held the lease, both payload entries are null.
fn holder_payload(before: &Task) -> Map<String, Value> {
    let attempt_number = before.is_held().then_some(before.attempt_count);
    agent_payload(before.agent_id.as_deref(), attempt_number)
}

fn no_holder_payload() -> Map<String, Value> {
    agent_payload(None, None)
}

fn agent_payload(agent_id: Option<&str>, attempt_number: Option<i32>) -> Map<String, Value> {
    Map::from_iter([("agentId".to_owned(), json!(agent_id)), ("attemptNumber".to_owned(), json!(attempt_number))])
}

/// Returns the event for a call that requeued all in-progress tasks of a run. The kind, message and payload match the
/// event that the TypeScript class RunStore wrote for a requeue of all in-progress tasks.
pub fn in_progress_tasks_requeued(changes: usize) -> EventDraft {
    new_event("requeue_in_progress", "Requeued in-progress tasks on resume.", json!({ "changes": changes }))
}

/// Returns the event for a call that was rejected because the call's lease token is stale.
pub fn stale_write_rejected(task: &Task, call: &str, stale: &StaleToken) -> EventDraft {
    let payload = json!({
        "call": call,
        "agentId": stale.agent_id,
        "attemptNumber": stale.attempt_number,
        "currentAttemptNumber": stale.current_attempt_number,
        "currentStatus": stale.current_status,
    });
    with_task(task, new_event("stale_write_rejected", format!("{call} rejected: stale lease token."), payload))
}

/// Returns the event for an attempt that an orchestrator has reported.
pub fn attempt_recorded(task: &Task, attempt: &TaskAttempt) -> EventDraft {
    let payload = json!({
        "attemptNumber": attempt.attempt_number,
        "status": attempt.status.name(),
        "summary": attempt.summary,
        "blockerSignature": attempt.blocker_signature,
        "result": attempt.result.to_value(),
    });
    with_task(task, new_event("attempt_recorded", "Attempt recorded.", payload))
}

/// Returns the event for a saved agent state.
pub fn agent_state_saved(state: &AgentState) -> EventDraft {
    let payload = json!({
        "role": state.role,
        "sessionId": state.session_id,
        "turns": state.turns,
        "rotationCount": state.rotation_count,
        "lastPromptPath": state.last_prompt_path,
        "lastResponsePath": state.last_response_path,
    });
    new_event("agent_state_saved", "Agent state saved.", payload)
}

/// Returns the event for a recorded approval, which was decided outside Runhub.
pub fn approval_recorded(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "source": approval.source,
        "verdict": approval.verdict.name(),
        "rationale": approval.rationale,
        "payload": approval.payload.to_value(),
    });
    approval_event(approval, "approval_recorded", "Approval recorded.", payload)
}

/// Returns the event for a requested approval.
pub fn approval_requested(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "title": approval.title,
        "requestedBy": approval.requested_by,
        "subjectDigest": approval.subject_digest,
        "onExpiry": approval.on_expiry.name(),
        "expireTime": approval.expire_time.map(Timestamp::to_text),
        "payload": approval.payload.to_value(),
    });
    approval_event(approval, "approval_requested", "Approval requested.", payload)
}

/// Returns the event for a decided approval.
pub fn approval_decided(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "source": approval.source,
        "verdict": approval.verdict.name(),
        "rationale": approval.rationale,
    });
    let message = format!("Approval decided: {}.", lowercase_words(approval.verdict.name()));
    approval_event(approval, "approval_decided", &message, payload)
}

/// Returns the event for an expired approval. `approval` is the approval after the `on_expiry` policy was applied.
pub fn approval_expired(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "onExpiry": approval.on_expiry.name(),
        "verdict": approval.verdict.name(),
        "source": approval.source,
    });
    approval_event(approval, "approval_expired", "Approval expired.", payload)
}

/// Returns the event for a cancelled approval.
pub fn approval_cancelled(approval: &Approval) -> EventDraft {
    let payload = json!({ "approvalId": approval.id, "source": approval.source });
    approval_event(approval, "approval_cancelled", "Approval cancelled.", payload)
}

/// Returns the event for a consumed approval.
pub fn approval_consumed(approval: &Approval) -> EventDraft {
    let payload = json!({ "approvalId": approval.id, "subjectDigest": approval.subject_digest });
    approval_event(approval, "approval_consumed", "Approval consumed.", payload)
}

fn approval_event(approval: &Approval, kind: &str, message: &str, payload: Value) -> EventDraft {
    EventDraft { task_key: approval.task_key, ..new_event(kind, message, payload) }
}

/// Returns the event for a new checkpoint.
pub fn checkpoint_created(checkpoint: &Checkpoint) -> EventDraft {
    let payload = json!({ "checkpointId": checkpoint.id, "status": checkpoint.status.name() });
    new_event("checkpoint_created", "Checkpoint created.", payload)
}

/// Returns the event for a new artifact.
pub fn artifact_created(artifact: &Artifact, task_key: Option<super::Key>) -> EventDraft {
    let payload = json!({
        "artifactId": artifact.id,
        "role": artifact.role,
        "kind": artifact.kind,
        "path": artifact.path,
    });
    EventDraft { task_key, ..new_event("artifact_created", "Artifact created.", payload) }
}
