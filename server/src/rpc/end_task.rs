//! What ends the work on a task, as it comes in.

use runhub_api::{Mutation, v1};
use tonic::{Response, Status};

use super::mutate::CallId;
use super::{Hub, field};
use crate::actions::Outcome;
use crate::actions::end_task::{self, EndTask};
use crate::domain::json::Json;
use crate::domain::limits;
use crate::domain::task::{EndStatus, Ending, Task};
use crate::error::Result;

impl Hub {
    /// Ends the work on a task and replies with what it is then.
    pub async fn end_task<R, T>(&self, request: &R, end: EndTask, reply: fn(Task) -> T) -> Result<Response<T>, Status>
    where
        R: Mutation,
        T: prost::Message + Default + 'static,
    {
        self.mutate_or_refuse(
            CallId::of(request)?,
            |_, _| Ok(None),
            move |tx| {
                Ok(match end_task::end(tx, &end)? {
                    Outcome::Done(task) => Outcome::Done(reply(task)),
                    Outcome::Refused(error) => Outcome::Refused(error),
                })
            },
        )
        .await
    }
}

/// Parses a completion.
pub fn parse_complete(request: &v1::CompleteTaskRequest) -> Result<EndTask> {
    let ending = Ending {
        to: EndStatus::Completed,
        summary: Some(field::text("summary", &request.summary)?),
        blocker_signature: None,
        result: field::json("result", request.result.as_ref())?,
        retry_delay: None,
    };
    end::<v1::CompleteTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)
}

/// Parses a failure.
pub fn parse_fail(request: &v1::FailTaskRequest) -> Result<EndTask> {
    let ending = Ending {
        to: EndStatus::Failed,
        summary: Some(field::text("summary", &request.summary)?),
        blocker_signature: field::optional_text("blocker_signature", request.blocker_signature.as_deref())?,
        result: field::json("result", request.result.as_ref())?,
        retry_delay: field::duration_up_to("retry_delay", request.retry_delay.as_ref(), limits::DELAY)?,
    };
    end::<v1::FailTaskRequest>(&request.task_id, Some(&request.lease_token), ending)
}

/// Parses a release.
pub fn parse_release(request: &v1::ReleaseTaskRequest) -> Result<EndTask> {
    let reason = Some(field::text("reason", &request.reason)?);
    let ending = without_result(EndStatus::Released, reason, None);
    end::<v1::ReleaseTaskRequest>(&request.task_id, Some(&request.lease_token), ending)
}

/// Parses a block.
pub fn parse_block(request: &v1::BlockTaskRequest) -> Result<EndTask> {
    let ending = parse_stop(EndStatus::Blocked, request.summary.as_deref(), request.blocker_signature.as_deref())?;
    end::<v1::BlockTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)
}

/// Parses an abandonment.
pub fn parse_abandon(request: &v1::AbandonTaskRequest) -> Result<EndTask> {
    let ending = parse_stop(EndStatus::Abandoned, request.summary.as_deref(), request.blocker_signature.as_deref())?;
    end::<v1::AbandonTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)
}

fn parse_stop(to: EndStatus, summary: Option<&str>, blocker_signature: Option<&str>) -> Result<Ending> {
    let summary = field::optional_text("summary", summary)?;
    Ok(without_result(to, summary, field::optional_text("blocker_signature", blocker_signature)?))
}

fn without_result(to: EndStatus, summary: Option<String>, blocker_signature: Option<String>) -> Ending {
    Ending { to, summary, blocker_signature, result: Json::null(), retry_delay: None }
}

fn end<R: Mutation>(task_id: &str, lease_token: Option<&str>, ending: Ending) -> Result<EndTask> {
    let task_id = field::id("task_id", task_id)?;
    let caller = field::caller(lease_token)?;
    Ok(EndTask { rpc: R::RPC.name, task_id, caller, ending })
}
