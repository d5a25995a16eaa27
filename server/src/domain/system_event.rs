//! The server's own events. `event.proto` documents the payload of each kind. Keys are only added.

use serde_json::{Map, Value, json};

use super::agent::AgentState;
use super::approval::Approval;
use super::artifact::Artifact;
use super::attempt::TaskAttempt;
use super::checkpoint::Checkpoint;
use super::code::words;
use super::event::{EventDraft, RUN_CANCELLED, RUN_DELETED, RUN_UPDATED, SYSTEM};
use super::json::Json;
use super::run::Run;
use super::task::{EndStatus, Ending, Task};
use super::time::Timestamp;
use crate::error::StaleToken;

/// Maximum length of a title in an event, because a plan of a thousand tasks is one event.
const TITLE_CHARS: usize = 200;

fn event(kind: &str, message: impl Into<String>, payload: Value) -> EventDraft {
    let payload = Json::from(payload);
    EventDraft { task_key: None, source: SYSTEM.to_owned(), kind: kind.to_owned(), message: message.into(), payload }
}

fn about(task: &Task, draft: EventDraft) -> EventDraft {
    EventDraft { task_key: Some(task.key), ..draft }
}

/// Returns the event of a new run. Kind, message and payload are those of RunStore.
pub fn run_created(run: &Run) -> EventDraft {
    event("run_created", "Run created.", json!({ "goal": run.goal, "repoPath": run.repo_path }))
}

/// Returns the event of a run that an import has created.
pub fn run_imported(run: &Run, from: &str) -> EventDraft {
    let payload = json!({ "goal": run.goal, "repoPath": run.repo_path, "importedFrom": from });
    event("run_created", "Run created by an import.", payload)
}

/// Returns the event of an updated run. The payload contains the fields that differ.
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
    event(RUN_UPDATED, "Run updated.", Value::Object(changed))
}

/// Returns the event of a paused run. `before` is the run before the pause.
pub fn run_paused(before: &Run, reason: &str) -> EventDraft {
    event("run_paused", "Run paused.", json!({ "reason": reason, "statusBefore": before.status.name() }))
}

/// Returns the event of a resumed run. `run` is the run after it resumed.
pub fn run_resumed(run: &Run, reason: &str) -> EventDraft {
    event("run_resumed", "Run resumed.", json!({ "reason": reason, "status": run.status.name() }))
}

/// Returns the event of a run whose cancellation was requested. `run` is the run after the request.
pub fn run_cancel_requested(run: &Run, reason: &str) -> EventDraft {
    let payload = json!({ "reason": reason, "graceEndTime": run.grace_end_time.map(Timestamp::to_text) });
    event("run_cancel_requested", "Cancellation requested.", payload)
}

/// Returns the last event of a cancellation.
pub fn run_cancelled(run: &Run) -> EventDraft {
    event(RUN_CANCELLED, "Run cancelled.", json!({ "reason": run.status_reason }))
}

/// Returns the event that remains of a deleted run.
pub fn run_deleted(run: &Run) -> EventDraft {
    let payload = json!({ "goal": run.goal, "repoPath": run.repo_path, "status": run.status.name() });
    event(RUN_DELETED, "Run deleted.", payload)
}

/// Returns the event of tasks that were added to the plan.
pub fn tasks_added(tasks: &[Task], plan_version: i32) -> EventDraft {
    let payload = json!({ "tasks": titles(tasks), "planVersion": plan_version });
    event("tasks_added", format!("{} added.", count(tasks.len(), "task")), payload)
}

/// Returns the event of a replaced plan.
pub fn plan_replaced(tasks: &[Task], plan_version: i32, abandoned_count: usize) -> EventDraft {
    let payload = json!({ "tasks": titles(tasks), "planVersion": plan_version, "abandonedCount": abandoned_count });
    let message = format!("Plan replaced: {} abandoned, {} added.", count(abandoned_count, "task"), tasks.len());
    event("plan_replaced", message, payload)
}

fn titles(tasks: &[Task]) -> Value {
    let shown = |task: &Task| json!({ "id": task.id, "ordinal": task.ordinal, "title": shown_title(&task.spec.title) });
    tasks.iter().map(shown).collect()
}

/// Returns the part of a title that events and obstacles show.
pub fn shown_title(title: &str) -> String {
    title.chars().take(TITLE_CHARS).collect()
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Returns the event of a claimed task. `task` is the task after the claim.
pub fn task_claimed(task: &Task) -> EventDraft {
    let agent_id = task.agent_id.as_deref().unwrap_or_default();
    let message = format!("Task claimed by {agent_id}, attempt {}.", task.attempt_count);
    about(task, event("task_claimed", message, lease(task)))
}

/// Returns the event of an expired lease that its late holder has resumed. `task` is the task after that.
pub fn lease_resumed(task: &Task) -> EventDraft {
    about(task, event("lease_resumed", "Lease resumed.", lease(task)))
}

fn lease(task: &Task) -> Value {
    let expire_time = task.lease.as_ref().map(|lease| lease.expire_time.to_text());
    json!({ "agentId": task.agent_id, "attemptNumber": task.attempt_count, "leaseExpireTime": expire_time })
}

/// Returns the event of an expired lease.
pub fn lease_expired(before: &Task, after: &Task) -> EventDraft {
    let mut payload = holder(before);
    payload.insert("status".to_owned(), json!(after.status.name()));
    payload.insert("failureCount".to_owned(), json!(after.failure_count));
    payload.insert("blockerSignature".to_owned(), json!(after.blocker_signature));
    about(before, event("lease_expired", "Lease expired.", Value::Object(payload)))
}

/// The attempt that an event is about.
#[derive(Debug, Clone)]
pub struct AttemptRef {
    /// The attempt's number.
    pub number: i32,
    /// The agent that made the attempt.
    pub agent_id: Option<String>,
}

/// Returns the event of a task whose work was ended. `after` is the task after that; `attempt` ended with it, if one was
/// running.
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
    about(after, event(kind, message, payload))
}

/// Returns the event of a task that a replan or the cancellation of its run has abandoned. No agent reported it, so the
/// task keeps its summary.
pub fn task_abandoned_unreported(before: &Task) -> EventDraft {
    let mut payload = holder(before);
    payload.insert("summary".to_owned(), json!(before.implementation_summary));
    payload.insert("blockerSignature".to_owned(), json!(before.blocker_signature));
    about(before, event("task_abandoned", "Task abandoned.", Value::Object(payload)))
}

/// Returns the event of a task that is blocked because a task it depends on was abandoned. `task` is the task after that.
pub fn task_blocked_by_dependency(task: &Task) -> EventDraft {
    let mut payload = holder(task);
    payload.insert("summary".to_owned(), json!(task.implementation_summary));
    payload.insert("blockerSignature".to_owned(), json!(task.blocker_signature));
    about(task, event("task_blocked", "Task blocked: a task it depends on was abandoned.", Value::Object(payload)))
}

/// Returns the event of a requeued task. `before` is the task before that.
pub fn task_requeued(before: &Task, reason: &str) -> EventDraft {
    let mut payload = holder(before);
    payload.insert("reason".to_owned(), json!(reason));
    about(before, event("task_requeued", "Task requeued.", Value::Object(payload)))
}

/// Returns the agent and the attempt that held a task. Both are null if nobody held it.
fn holder(before: &Task) -> Map<String, Value> {
    let attempt_number = before.is_held().then_some(before.attempt_count);
    let agent_id = before.agent_id.as_deref();
    Map::from_iter([("agentId".to_owned(), json!(agent_id)), ("attemptNumber".to_owned(), json!(attempt_number))])
}

/// Returns the event of an orchestrator that requeued all tasks in progress. Kind, message and payload are those of
/// RunStore.
pub fn requeue_in_progress(changes: usize) -> EventDraft {
    event("requeue_in_progress", "Requeued in-progress tasks on resume.", json!({ "changes": changes }))
}

/// Returns the event of a call that was rejected because its lease token is stale.
pub fn stale_write_rejected(task: &Task, call: &str, stale: &StaleToken) -> EventDraft {
    let payload = json!({
        "call": call,
        "agentId": stale.agent_id,
        "attemptNumber": stale.attempt_number,
        "currentAttemptNumber": stale.current_attempt_number,
        "currentStatus": stale.current_status,
    });
    about(task, event("stale_write_rejected", format!("{call} rejected: stale lease token."), payload))
}

/// Returns the event of an attempt that an orchestrator has reported.
pub fn attempt_recorded(task: &Task, attempt: &TaskAttempt) -> EventDraft {
    let payload = json!({
        "attemptNumber": attempt.attempt_number,
        "status": attempt.status.name(),
        "summary": attempt.summary,
        "blockerSignature": attempt.blocker_signature,
        "result": attempt.result.to_value(),
    });
    about(task, event("attempt_recorded", "Attempt recorded.", payload))
}

/// Returns the event of a saved agent state.
pub fn agent_state_saved(state: &AgentState) -> EventDraft {
    let payload = json!({
        "role": state.role,
        "sessionId": state.session_id,
        "turns": state.turns,
        "rotationCount": state.rotation_count,
        "lastPromptPath": state.last_prompt_path,
        "lastResponsePath": state.last_response_path,
    });
    event("agent_state_saved", "Agent state saved.", payload)
}

/// Returns the event of an approval that was decided elsewhere and recorded.
pub fn approval_recorded(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "source": approval.source,
        "verdict": approval.verdict.name(),
        "rationale": approval.rationale,
        "payload": approval.payload.to_value(),
    });
    of_approval(approval, "approval_recorded", "Approval recorded.", payload)
}

/// Returns the event of a requested approval.
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
    of_approval(approval, "approval_requested", "Approval requested.", payload)
}

/// Returns the event of a decided approval.
pub fn approval_decided(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "source": approval.source,
        "verdict": approval.verdict.name(),
        "rationale": approval.rationale,
    });
    let message = format!("Approval decided: {}.", words(approval.verdict.name()));
    of_approval(approval, "approval_decided", &message, payload)
}

/// Returns the event of an expired approval. `approval` is the approval after its policy was applied.
pub fn approval_expired(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "onExpiry": approval.on_expiry.name(),
        "verdict": approval.verdict.name(),
        "source": approval.source,
    });
    of_approval(approval, "approval_expired", "Approval expired.", payload)
}

/// Returns the event of a cancelled approval.
pub fn approval_cancelled(approval: &Approval) -> EventDraft {
    let payload = json!({ "approvalId": approval.id, "source": approval.source });
    of_approval(approval, "approval_cancelled", "Approval cancelled.", payload)
}

/// Returns the event of a consumed approval.
pub fn approval_consumed(approval: &Approval) -> EventDraft {
    let payload = json!({ "approvalId": approval.id, "subjectDigest": approval.subject_digest });
    of_approval(approval, "approval_consumed", "Approval consumed.", payload)
}

fn of_approval(approval: &Approval, kind: &str, message: &str, payload: Value) -> EventDraft {
    EventDraft { task_key: approval.task_key, ..event(kind, message, payload) }
}

/// Returns the event of a new checkpoint.
pub fn checkpoint_created(checkpoint: &Checkpoint) -> EventDraft {
    let payload = json!({ "checkpointId": checkpoint.id, "status": checkpoint.status.name() });
    event("checkpoint_created", "Checkpoint created.", payload)
}

/// Returns the event of a new artifact.
pub fn artifact_created(artifact: &Artifact, task_key: Option<super::Key>) -> EventDraft {
    let payload = json!({
        "artifactId": artifact.id,
        "role": artifact.role,
        "kind": artifact.kind,
        "path": artifact.path,
    });
    EventDraft { task_key, ..event("artifact_created", "Artifact created.", payload) }
}
