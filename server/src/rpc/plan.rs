//! Parsing and answering the requests of TaskService that change a run's plan.

use prost::Message;
use runhub_api::v1;

use super::{convert, field};
use crate::actions::plan::{ReplacePlan, ReplacedPlan};
use crate::domain::limits;
use crate::domain::task::{Task, TaskDraft, TaskSpec};
use crate::error::{Error, Result};

/// Parses the tasks of a request.
pub fn parse_drafts(drafts: &[v1::TaskDraft]) -> Result<Vec<TaskDraft>> {
    field::batch("tasks", drafts.len())?;
    drafts.iter().enumerate().map(|(at, draft)| parse_draft(&format!("tasks[{at}]"), draft)).collect()
}

fn parse_draft(at: &str, draft: &v1::TaskDraft) -> Result<TaskDraft> {
    let of = |name: &str| format!("{at}.{name}");
    // The answer to a claim contains the task and its previous attempt, and must fit into one message.
    let bytes = draft.encoded_len();
    if bytes > limits::TASK_BYTES {
        return Err(Error::field(at, format!("must have at most {} bytes, not {bytes}", limits::TASK_BYTES)));
    }
    let key = field::plain_name(&of("key"), &draft.key)?;
    let spec = TaskSpec {
        title: field::required_text(&of("title"), &draft.title)?,
        objective: field::text(&of("objective"), &draft.objective)?,
        acceptance_criteria: field::texts(&of("acceptance_criteria"), &draft.acceptance_criteria)?,
        verification_steps: field::texts(&of("verification_steps"), &draft.verification_steps)?,
        allowed_paths: field::globs(&of("allowed_paths"), &draft.allowed_paths)?,
        required_capabilities: field::names(&of("required_capabilities"), &draft.required_capabilities)?,
        priority: draft.priority,
        labels: field::labels(&of("labels"), &draft.labels)?,
        max_attempts: field::count(&of("max_attempts"), draft.max_attempts)?,
        not_before_time: field::time(&of("not_before_time"), draft.not_before_time.as_ref())?,
    };
    let depends_on = field::references(&of("depends_on"), &draft.depends_on)?;
    // A blank key counts as unset.
    let key = if key.trim().is_empty() { String::new() } else { key };
    Ok(TaskDraft { key, spec, depends_on })
}

/// Parses the request for a new plan.
pub fn parse_replace(request: &v1::ReplacePendingTasksRequest) -> Result<ReplacePlan> {
    let expected_plan_version = request.expected_plan_version;
    Ok(ReplacePlan {
        run_id: field::id("run_id", &request.run_id)?,
        drafts: parse_drafts(&request.tasks)?,
        expected_plan_version: expected_plan_version
            .map(|version| field::count("expected_plan_version", version))
            .transpose()?,
        keep_in_progress: parse_policy(request.in_progress)? == v1::InProgressPolicy::Keep,
    })
}

fn parse_policy(policy: i32) -> Result<v1::InProgressPolicy> {
    v1::InProgressPolicy::try_from(policy).map_err(|_| field::unknown_code("in_progress", policy))
}

/// Returns the answer to AddTasks. Fails if it is too large, which rolls the transaction back.
pub fn added(tasks: Vec<Task>) -> Result<v1::AddTasksResponse> {
    check_size(v1::AddTasksResponse { tasks: convert::protos(tasks) })
}

/// Returns the answer to ReplacePendingTasks. Fails if it is too large, which rolls the transaction back.
pub fn replaced(plan: ReplacedPlan) -> Result<v1::ReplacePendingTasksResponse> {
    check_size(v1::ReplacePendingTasksResponse {
        tasks: convert::protos(plan.tasks),
        abandoned_count: convert::count(plan.abandoned_count),
        plan_version: plan.plan_version,
    })
}

/// Fails if gRPC clients could not receive the answer. It can be larger than the request, because ids are longer than the
/// keys they replace.
fn check_size<M: Message>(response: M) -> Result<M> {
    let bytes = response.encoded_len();
    if bytes > limits::REQUEST_BYTES {
        let limit = limits::REQUEST_BYTES;
        let problem = format!("must have an answer of at most {limit} bytes, not {bytes}: add fewer tasks in one call");
        return Err(Error::field("tasks", problem));
    }
    Ok(response)
}
