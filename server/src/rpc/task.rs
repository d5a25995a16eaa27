//! TaskService.

use std::sync::Arc;

use runhub_api::v1;
use runhub_api::v1::task_service_server::TaskService;
use tonic::{Request, Response, Status};

use super::attempt::Whose;
use super::mutate::{CallId, job_options};
use super::page::PageRequest;
use super::{Hub, attempt, convert, end_task, field, page, plan};
use crate::actions::claim::Wanted;
use crate::actions::explain;
use crate::actions::lease::{self, Beat};
use crate::actions::{plan as planning, requeue};
use crate::domain::limits;
use crate::domain::obstacle::Obstacle;
use crate::domain::task::TaskStatus;
use crate::error::{Error, Result};
use crate::store::{Limit, runs, tasks};

#[tonic::async_trait]
impl TaskService for Hub {
    async fn add_tasks(&self, request: Request<v1::AddTasksRequest>) -> Result<Response<v1::AddTasksResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        let drafts = plan::parse_drafts(&request.tasks)?;
        self.mutate(call, move |tx| {
            let tasks = planning::add(tx, &run_id, &drafts)?;
            let response = v1::AddTasksResponse { tasks: convert::protos(tasks) };
            plan::check_answer(&response).map(|()| response)
        })
        .await
    }

    async fn replace_pending_tasks(
        &self,
        request: Request<v1::ReplacePendingTasksRequest>,
    ) -> Result<Response<v1::ReplacePendingTasksResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        let drafts = plan::parse_drafts(&request.tasks)?;
        let expected = request.expected_plan_version.map(|version| field::count("expected_plan_version", version));
        let expected = expected.transpose()?;
        let keep = parse_keep(request.in_progress)?;
        self.mutate(call, move |tx| {
            let replaced = planning::replace(tx, &run_id, &drafts, expected, keep)?;
            let response = v1::ReplacePendingTasksResponse {
                tasks: convert::protos(replaced.tasks),
                abandoned_count: count(replaced.abandoned_count),
                plan_version: replaced.plan_version,
            };
            plan::check_answer(&response).map(|()| response)
        })
        .await
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Result<Response<v1::GetTaskResponse>, Status> {
        let id = field::id("task_id", &request.into_inner().task_id)?;
        let task = self.store.read(move |tx| tasks::get(tx, &id)).await?;
        Ok(Response::new(v1::GetTaskResponse { task: Some(task.into()) }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let mut request = request.into_inner();
        let run_id = field::id("run_id", &request.run_id)?;
        let page = PageRequest::take(&mut request)?;
        let statuses = field::codes("statuses", &request.statuses, TaskStatus::from_code)?;
        let (after, limit) = (page.after.unwrap_or(0), page.limit);
        let found = self.store.read(move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            match statuses.as_slice() {
                [] => tasks::list(tx, run_key, after, limit),
                some => tasks::list_with_statuses(tx, run_key, some, after, limit),
            }
        });
        let found = found.await?;
        let (tasks, next_page_token) = page.answer(found, |task| i64::from(task.ordinal));
        Ok(Response::new(v1::ListTasksResponse { tasks, next_page_token }))
    }

    async fn claim_task(
        &self,
        request: Request<v1::ClaimTaskRequest>,
    ) -> Result<Response<v1::ClaimTaskResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let wanted = Wanted {
            run_id: field::id_or_any("run_id", &request.run_id)?,
            agent_id: field::name("agent_id", &request.agent_id)?,
            capabilities: field::names("capabilities", &request.capabilities)?,
            lease_duration: field::lease_duration("lease_duration", request.lease_duration.as_ref())?
                .unwrap_or(self.default_lease),
        };
        let wait = field::wait(request.wait.as_ref())?;
        self.claim(call, wanted, wait).await
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let beats = parse_beats(&request.beats)?;
        let duration = field::lease_duration("lease_duration", request.lease_duration.as_ref())?;
        let overlaps = Arc::clone(&self.overlaps);
        let results = self.store.transact_with(job_options(&request), move |tx| {
            beats.iter().map(|beat| lease::beat(tx, beat, duration, &overlaps)).collect::<Result<Vec<_>>>()
        });
        Ok(Response::new(v1::HeartbeatResponse { results: convert::protos(results.await?) }))
    }

    async fn complete_task(
        &self,
        request: Request<v1::CompleteTaskRequest>,
    ) -> Result<Response<v1::CompleteTaskResponse>, Status> {
        let request = request.into_inner();
        let end = end_task::parse_complete(&request)?;
        self.end_task(&request, end, |task| v1::CompleteTaskResponse { task: Some(task.into()) }).await
    }

    async fn fail_task(&self, request: Request<v1::FailTaskRequest>) -> Result<Response<v1::FailTaskResponse>, Status> {
        let request = request.into_inner();
        let end = end_task::parse_fail(&request)?;
        self.end_task(&request, end, |task| v1::FailTaskResponse { task: Some(task.into()) }).await
    }

    async fn release_task(
        &self,
        request: Request<v1::ReleaseTaskRequest>,
    ) -> Result<Response<v1::ReleaseTaskResponse>, Status> {
        let request = request.into_inner();
        let end = end_task::parse_release(&request)?;
        self.end_task(&request, end, |task| v1::ReleaseTaskResponse { task: Some(task.into()) }).await
    }

    async fn block_task(
        &self,
        request: Request<v1::BlockTaskRequest>,
    ) -> Result<Response<v1::BlockTaskResponse>, Status> {
        let request = request.into_inner();
        let end = end_task::parse_block(&request)?;
        self.end_task(&request, end, |task| v1::BlockTaskResponse { task: Some(task.into()) }).await
    }

    async fn abandon_task(
        &self,
        request: Request<v1::AbandonTaskRequest>,
    ) -> Result<Response<v1::AbandonTaskResponse>, Status> {
        let request = request.into_inner();
        let end = end_task::parse_abandon(&request)?;
        self.end_task(&request, end, |task| v1::AbandonTaskResponse { task: Some(task.into()) }).await
    }

    async fn requeue_task(
        &self,
        request: Request<v1::RequeueTaskRequest>,
    ) -> Result<Response<v1::RequeueTaskResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let task_id = field::id("task_id", &request.task_id)?;
        let reason = field::text("reason", &request.reason)?;
        self.mutate(call, move |tx| {
            let task = requeue::requeue(tx, &task_id, &reason)?;
            Ok(v1::RequeueTaskResponse { task: Some(task.into()) })
        })
        .await
    }

    async fn requeue_in_progress_tasks(
        &self,
        request: Request<v1::RequeueInProgressTasksRequest>,
    ) -> Result<Response<v1::RequeueInProgressTasksResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        self.mutate(call, move |tx| {
            let requeued_count = count(requeue::requeue_in_progress(tx, &run_id)?);
            Ok(v1::RequeueInProgressTasksResponse { requeued_count })
        })
        .await
    }

    async fn record_task_attempt(
        &self,
        request: Request<v1::RecordTaskAttemptRequest>,
    ) -> Result<Response<v1::RecordTaskAttemptResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        let task_id = field::id("task_id", &request.task_id)?;
        let report = attempt::parse_report(&request)?;
        self.mutate(call, move |tx| {
            let attempt = attempt::record(tx, &run_id, &task_id, &report)?;
            Ok(v1::RecordTaskAttemptResponse { attempt: Some(attempt.into()) })
        })
        .await
    }

    async fn get_latest_task_attempt(
        &self,
        request: Request<v1::GetLatestTaskAttemptRequest>,
    ) -> Result<Response<v1::GetLatestTaskAttemptResponse>, Status> {
        let whose = Whose::Task(field::id("task_id", &request.into_inner().task_id)?);
        let one = Limit { rows: 1, bytes: limits::PAGE_BYTES };
        let newest = self.store.read(move |tx| attempt::newest(tx, &whose, one)).await?;
        let attempt = newest.into_iter().next().map(Into::into);
        Ok(Response::new(v1::GetLatestTaskAttemptResponse { attempt }))
    }

    async fn list_task_attempts(
        &self,
        request: Request<v1::ListTaskAttemptsRequest>,
    ) -> Result<Response<v1::ListTaskAttemptsResponse>, Status> {
        let request = request.into_inner();
        let whose = Whose::parse(&request.run_id, &request.task_id)?;
        let limit = page::newest("limit", request.limit, limits::DEFAULT_ATTEMPTS)?;
        let newest = self.store.read(move |tx| attempt::newest(tx, &whose, limit)).await?;
        Ok(Response::new(v1::ListTaskAttemptsResponse { attempts: page::newest_fitting(newest) }))
    }

    async fn explain_task(
        &self,
        request: Request<v1::ExplainTaskRequest>,
    ) -> Result<Response<v1::ExplainTaskResponse>, Status> {
        let id = field::id("task_id", &request.into_inner().task_id)?;
        let overlaps = Arc::clone(&self.overlaps);
        let reasons = self.store.read(move |tx| explain::explain(tx, &id, &overlaps)).await?;
        let claimable = !reasons.iter().any(Obstacle::is_for_all);
        Ok(Response::new(v1::ExplainTaskResponse { claimable, reasons: convert::protos(reasons) }))
    }
}

fn parse_beats(beats: &[v1::Beat]) -> Result<Vec<Beat>> {
    field::batch("beats", beats.len())?;
    let parse = |(at, beat): (usize, &v1::Beat)| {
        let of = |name: &str| format!("beats[{at}].{name}");
        let progress = beat.progress.as_ref().map(|value| field::json(&of("progress"), Some(value)));
        Ok(Beat { token: field::id(&of("lease_token"), &beat.lease_token)?, progress: progress.transpose()? })
    };
    beats.iter().enumerate().map(parse).collect()
}

fn parse_keep(policy: i32) -> Result<bool> {
    match v1::InProgressPolicy::try_from(policy) {
        Ok(policy) => Ok(policy == v1::InProgressPolicy::Keep),
        Err(_) => Err(Error::field("in_progress", format!("has no value {policy}"))),
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
