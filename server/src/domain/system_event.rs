//! The server's own events. `event.proto` documents each kind's payload; keys are only ever added.

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

/// How much of a title an event shows: a plan of a thousand tasks is one event.
const TITLE_CHARS: usize = 200;

fn event(kind: &str, message: impl Into<String>, payload: Value) -> EventDraft {
    let payload = Json::from(payload);
    EventDraft { task_key: None, source: SYSTEM.to_owned(), kind: kind.to_owned(), message: message.into(), payload }
}

fn about(task: &Task, draft: EventDraft) -> EventDraft {
    EventDraft { task_key: Some(task.key), ..draft }
}

/// A run was made. Kind, message and payload are the seed's.
pub fn run_created(run: &Run) -> EventDraft {
    event("run_created", "Run created.", json!({ "goal": run.goal, "repoPath": run.repo_path }))
}

/// A run was made by an import.
pub fn run_imported(run: &Run, from: &str) -> EventDraft {
    let payload = json!({ "goal": run.goal, "repoPath": run.repo_path, "importedFrom": from });
    event("run_created", "Run created by an import.", payload)
}

/// A run was changed; the payload has what differs.
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

/// No task of a run is given out any more; `before` is the run as it was.
pub fn run_paused(before: &Run, reason: &str) -> EventDraft {
    event("run_paused", "Run paused.", json!({ "reason": reason, "statusBefore": before.status.name() }))
}

/// A run is as it was before it was paused; `run` is as it is after that.
pub fn run_resumed(run: &Run, reason: &str) -> EventDraft {
    event("run_resumed", "Run resumed.", json!({ "reason": reason, "status": run.status.name() }))
}

/// A run is being cancelled; `run` is as it is after that.
pub fn run_cancel_requested(run: &Run, reason: &str) -> EventDraft {
    let payload = json!({ "reason": reason, "graceEndTime": run.grace_end_time.map(Timestamp::to_text) });
    event("run_cancel_requested", "Cancellation requested.", payload)
}

/// A run was cancelled.
pub fn run_cancelled(run: &Run) -> EventDraft {
    event(RUN_CANCELLED, "Run cancelled.", json!({ "reason": run.status_reason }))
}

/// A run was deleted; this is all that is left of it.
pub fn run_deleted(run: &Run) -> EventDraft {
    let payload = json!({ "goal": run.goal, "repoPath": run.repo_path, "status": run.status.name() });
    event(RUN_DELETED, "Run deleted.", payload)
}

/// Tasks were appended to the plan.
pub fn tasks_added(tasks: &[Task], plan_version: i32) -> EventDraft {
    let payload = json!({ "tasks": titles(tasks), "planVersion": plan_version });
    event("tasks_added", format!("{} added.", count(tasks.len(), "task")), payload)
}

/// The plan was replaced.
pub fn plan_replaced(tasks: &[Task], plan_version: i32, abandoned_count: usize) -> EventDraft {
    let payload = json!({ "tasks": titles(tasks), "planVersion": plan_version, "abandonedCount": abandoned_count });
    let message = format!("Plan replaced: {} abandoned, {} added.", count(abandoned_count, "task"), tasks.len());
    event("plan_replaced", message, payload)
}

fn titles(tasks: &[Task]) -> Value {
    let shown = |task: &Task| json!({ "id": task.id, "ordinal": task.ordinal, "title": shown_title(&task.spec.title) });
    tasks.iter().map(shown).collect()
}

/// As much of a title as is shown beside others.
pub fn shown_title(title: &str) -> String {
    title.chars().take(TITLE_CHARS).collect()
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A task was given to an agent; `task` is as it is after that.
pub fn task_claimed(task: &Task) -> EventDraft {
    let agent_id = task.agent_id.as_deref().unwrap_or_default();
    let message = format!("Task claimed by {agent_id}, attempt {}.", task.attempt_count);
    about(task, event("task_claimed", message, lease(task)))
}

/// A late holder took its lease up again; `task` is as it is after that.
pub fn lease_resumed(task: &Task) -> EventDraft {
    about(task, event("lease_resumed", "Lease taken up again.", lease(task)))
}

fn lease(task: &Task) -> Value {
    let expire_time = task.lease.as_ref().map(|lease| lease.expire_time.to_text());
    json!({ "agentId": task.agent_id, "attemptNumber": task.attempt_count, "leaseExpireTime": expire_time })
}

/// Nobody was heard of in time.
pub fn lease_expired(before: &Task, after: &Task) -> EventDraft {
    let mut payload = holder(before);
    payload.insert("status".to_owned(), json!(after.status.name()));
    payload.insert("failureCount".to_owned(), json!(after.failure_count));
    payload.insert("blockerSignature".to_owned(), json!(after.blocker_signature));
    about(before, event("lease_expired", "Lease expired.", Value::Object(payload)))
}

/// Which claim of a task, and whose it was.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Attempt {
    pub number: i32,
    pub agent_id: Option<String>,
}

/// The work on a task was ended, and with it an attempt if there was one; `after` is as it is after that.
pub fn task_ended(after: &Task, attempt: Option<&Attempt>, ending: &Ending) -> EventDraft {
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

/// A task was given up by a replan or with its run; what was said of it stays.
pub fn task_given_up(before: &Task) -> EventDraft {
    let mut payload = holder(before);
    payload.insert("summary".to_owned(), json!(before.implementation_summary));
    payload.insert("blockerSignature".to_owned(), json!(before.blocker_signature));
    about(before, event("task_abandoned", "Task abandoned.", Value::Object(payload)))
}

/// A task was blocked because one it depends on was abandoned; `task` is as it is after that.
pub fn task_blocked_by_dependency(task: &Task) -> EventDraft {
    let mut payload = holder(task);
    payload.insert("summary".to_owned(), json!(task.implementation_summary));
    payload.insert("blockerSignature".to_owned(), json!(task.blocker_signature));
    about(task, event("task_blocked", "Task blocked: a task it depends on was abandoned.", Value::Object(payload)))
}

/// A task is pending again; `before` is as it was before that.
pub fn task_requeued(before: &Task, reason: &str) -> EventDraft {
    let mut payload = holder(before);
    payload.insert("reason".to_owned(), json!(reason));
    about(before, event("task_requeued", "Task requeued.", Value::Object(payload)))
}

/// Who held a task before, both null if nobody did.
fn holder(before: &Task) -> Map<String, Value> {
    let attempt_number = before.is_held().then_some(before.attempt_count);
    let agent_id = before.agent_id.as_deref();
    Map::from_iter([("agentId".to_owned(), json!(agent_id)), ("attemptNumber".to_owned(), json!(attempt_number))])
}

/// An orchestrator started again. Kind, message and payload are the seed's.
pub fn requeue_in_progress(changes: usize) -> EventDraft {
    event("requeue_in_progress", "Requeued in-progress tasks on resume.", json!({ "changes": changes }))
}

/// Somebody came with a token that is no longer good.
pub fn stale_write_rejected(task: &Task, call: &str, stale: &StaleToken) -> EventDraft {
    let payload = json!({
        "call": call,
        "agentId": stale.agent_id,
        "attemptNumber": stale.attempt_number,
        "currentAttemptNumber": stale.current_attempt_number,
        "currentStatus": stale.current_status,
    });
    about(task, event("stale_write_rejected", format!("{call} refused: stale lease token."), payload))
}

/// An orchestrator reported an attempt of its own.
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

/// The state of a role was saved.
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

/// A decision made elsewhere was recorded.
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

/// A decision is asked for.
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

/// Somebody decided.
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

/// Nobody decided in time; `approval` is as it is after that.
pub fn approval_expired(approval: &Approval) -> EventDraft {
    let payload = json!({
        "approvalId": approval.id,
        "onExpiry": approval.on_expiry.name(),
        "verdict": approval.verdict.name(),
        "source": approval.source,
    });
    of_approval(approval, "approval_expired", "Approval expired.", payload)
}

/// It is no longer asked.
pub fn approval_cancelled(approval: &Approval) -> EventDraft {
    let payload = json!({ "approvalId": approval.id, "source": approval.source });
    of_approval(approval, "approval_cancelled", "Approval cancelled.", payload)
}

/// It was used.
pub fn approval_consumed(approval: &Approval) -> EventDraft {
    let payload = json!({ "approvalId": approval.id, "subjectDigest": approval.subject_digest });
    of_approval(approval, "approval_consumed", "Approval consumed.", payload)
}

fn of_approval(approval: &Approval, kind: &str, message: &str, payload: Value) -> EventDraft {
    EventDraft { task_key: approval.task_key, ..event(kind, message, payload) }
}

/// A checkpoint was taken.
pub fn checkpoint_created(checkpoint: &Checkpoint) -> EventDraft {
    let payload = json!({ "checkpointId": checkpoint.id, "status": checkpoint.status.name() });
    event("checkpoint_created", "Checkpoint created.", payload)
}

/// An artifact was noted.
pub fn artifact_created(artifact: &Artifact, task_key: Option<super::Key>) -> EventDraft {
    let payload = json!({
        "artifactId": artifact.id,
        "role": artifact.role,
        "kind": artifact.kind,
        "path": artifact.path,
    });
    EventDraft { task_key, ..event("artifact_created", "Artifact created.", payload) }
}
