//! A plan as it comes in, and whether its answer can go out.

use prost::Message;
use runhub_api::v1;

use super::field;
use crate::domain::limits;
use crate::domain::task::{TaskDraft, TaskSpec};
use crate::error::{Error, Result};

/// Parses the drafts of a request.
pub fn parse_drafts(drafts: &[v1::TaskDraft]) -> Result<Vec<TaskDraft>> {
    field::batch("tasks", drafts.len())?;
    drafts.iter().enumerate().map(|(at, draft)| parse_draft(&format!("tasks[{at}]"), draft)).collect()
}

fn parse_draft(at: &str, draft: &v1::TaskDraft) -> Result<TaskDraft> {
    let of = |name: &str| format!("{at}.{name}");
    // Its claim must fit into what clients take, with what is said of it later.
    let bytes = draft.encoded_len();
    if bytes > limits::TASK_BYTES {
        return Err(Error::field(at, format!("has {bytes} bytes, over {}", limits::TASK_BYTES)));
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
    // A blank key is no key.
    let key = if key.trim().is_empty() { String::new() } else { key };
    Ok(TaskDraft { key, spec, depends_on })
}

/// Refuses a plan whose answer gRPC clients could not take: ids are longer than the keys they stand for.
pub fn check_answer(response: &impl Message) -> Result<()> {
    let bytes = response.encoded_len();
    if bytes > limits::REQUEST_BYTES {
        let problem = format!("have an answer of {bytes} bytes, over {}: add fewer at a time", limits::REQUEST_BYTES);
        return Err(Error::field("tasks", problem));
    }
    Ok(())
}
