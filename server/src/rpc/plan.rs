//! This module parses and answers the requests of TaskService that change a run's plan.

use prost::Message;
use runhub_api::v1;

use super::{convert, field};
use crate::actions::plan::{ReplacePlan, ReplacedPlan};
use crate::domain::limits;
use crate::domain::task::{Task, TaskDraft, TaskSpec};
use crate::error::{Error, Result};

/// Parses the task drafts of a request. Fails if a draft is invalid.
pub fn parse_drafts(drafts: &[v1::TaskDraft]) -> Result<Vec<TaskDraft>> {
    field::batch_entries("tasks", drafts.len())?;
    let parse = |(at, draft): (usize, &v1::TaskDraft)| {
        let path = || format!("tasks[{at}]");
        field::task_bytes(path, draft.encoded_len())?;
        parse_draft(draft).map_err(|error| error.within(path))
    };
    drafts.iter().enumerate().map(parse).collect()
}

fn parse_draft(draft: &v1::TaskDraft) -> Result<TaskDraft> {
    let key = field::name_or_blank("key", &draft.key)?;
    let spec = TaskSpec {
        title: field::required_text("title", &draft.title)?,
        objective: field::text("objective", &draft.objective)?,
        acceptance_criteria: field::texts("acceptance_criteria", &draft.acceptance_criteria)?,
        verification_steps: field::texts("verification_steps", &draft.verification_steps)?,
        allowed_paths: field::globs("allowed_paths", &draft.allowed_paths)?,
        required_capabilities: field::names("required_capabilities", &draft.required_capabilities)?,
        priority: draft.priority,
        labels: field::labels("labels", &draft.labels)?,
        max_attempts: field::count("max_attempts", draft.max_attempts)?,
        not_before_time: field::time("not_before_time", draft.not_before_time.as_ref())?,
    };
    let depends_on = field::references("depends_on", &draft.depends_on)?;
    let key = if key.trim().is_empty() { String::new() } else { key };
    Ok(TaskDraft { key, spec, depends_on })
}

/// Parses a request to replace the plan of a run. Fails if a field is invalid.
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

/// Returns the response of AddTasks. Fails if the response is larger than `limits::REQUEST_BYTES`. The failure rolls
/// back the transaction.
pub fn add_tasks_response(tasks: Vec<Task>) -> Result<v1::AddTasksResponse> {
    check_size(v1::AddTasksResponse { tasks: convert::to_protos(tasks) })
}

/// Returns the response of ReplacePendingTasks. Fails if the response is larger than `limits::REQUEST_BYTES`. The
/// failure rolls back the transaction.
pub fn replace_tasks_response(plan: ReplacedPlan) -> Result<v1::ReplacePendingTasksResponse> {
    check_size(v1::ReplacePendingTasksResponse {
        tasks: convert::to_protos(plan.tasks),
        abandoned_count: convert::count_to_proto(plan.abandoned_count),
        plan_version: plan.plan_version,
    })
}

/// Returns the response unchanged. Fails if the response is larger than `limits::REQUEST_BYTES`, because gRPC clients
/// would refuse the response. A response can be larger than the request, because a task id in `depends_on` can be
/// longer than the draft key in the request.
fn check_size<M: Message>(response: M) -> Result<M> {
    let bytes = response.encoded_len();
    if bytes > limits::REQUEST_BYTES {
        let limit = limits::REQUEST_BYTES;
        let problem =
            format!("the response has {bytes} bytes, but the maximum is {limit}: add fewer tasks in one call");
        return Err(Error::field("tasks", problem));
    }
    Ok(response)
}
