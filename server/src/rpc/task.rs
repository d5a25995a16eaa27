//! This module implements TaskService.

use std::convert::identity;
use std::sync::Arc;

use runhub_api::v1::task_service_server::TaskService;
use runhub_api::{Request as ApiRequest, v1};
use tonic::{Request, Response};

use super::write::{Call, job_options};
use super::{Hub, Reply, attempt, convert, field, page, plan};
use crate::actions::attempt::AttemptScope;
use crate::actions::claim::ClaimRequest;
use crate::actions::lease::{self, Heartbeat, LeaseHeartbeat};
use crate::actions::task::EndTask;
use crate::actions::{self, obstacle};
use crate::domain::limits;
use crate::domain::obstacle::Obstacle;
use crate::domain::task::{EndStatus, Ending, TaskStatus};
use crate::error::Result;
use crate::store::{Limit, ReadAhead, tasks};

#[tonic::async_trait]
impl TaskService for Hub {
    async fn add_tasks(&self, request: Request<v1::AddTasksRequest>) -> Reply<v1::AddTasksResponse> {
        self.write(
            request,
            |request| Ok((field::id("run_id", &request.run_id)?, plan::parse_drafts(&request.tasks)?)),
            |tx, (run_id, drafts)| plan::add_tasks_response(actions::plan::add(tx, run_id, drafts)?),
            identity,
        )
        .await
    }

    async fn replace_pending_tasks(
        &self,
        request: Request<v1::ReplacePendingTasksRequest>,
    ) -> Reply<v1::ReplacePendingTasksResponse> {
        self.write(
            request,
            plan::parse_replace,
            |tx, replace| plan::replace_tasks_response(actions::plan::replace(tx, replace)?),
            identity,
        )
        .await
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Reply<v1::GetTaskResponse> {
        self.read(
            request,
            |request| field::id("task_id", &request.task_id),
            |tx, task_id| tasks::get(tx, task_id),
            |task| v1::GetTaskResponse { task: Some(task.into()) },
        )
        .await
    }

    async fn list_tasks(&self, request: Request<v1::ListTasksRequest>) -> Reply<v1::ListTasksResponse> {
        let parse = |request: &v1::ListTasksRequest| {
            let run_id = field::id("run_id", &request.run_id)?;
            Ok((run_id, field::codes("statuses", &request.statuses, TaskStatus::from_code)?))
        };
        self.read_page(
            request,
            parse,
            |tx, (run_id, statuses), page| {
                actions::task::list(tx, run_id, statuses, page.after.unwrap_or(0), page.limit)
            },
            |task| i64::from(task.ordinal),
            |tasks, next_page_token| v1::ListTasksResponse { tasks, next_page_token },
        )
        .await
    }

    async fn claim_task(&self, request: Request<v1::ClaimTaskRequest>) -> Reply<v1::ClaimTaskResponse> {
        let request = request.into_inner();
        let call = Call::new(&request)?.claiming();
        let claim = ClaimRequest {
            run_id: field::id_or_any("run_id", &request.run_id)?,
            agent_id: field::name("agent_id", &request.agent_id)?,
            capabilities: field::names("capabilities", &request.capabilities)?,
            lease_duration: field::lease_duration("lease_duration", request.lease_duration.as_ref())?
                .unwrap_or(self.default_lease),
        };
        self.claim(call, claim, field::wait(request.wait.as_ref())?).await
    }

    /// Extends the leases of a Heartbeat call, and returns the result of each heartbeat. Fails if a field is invalid,
    /// or if the transaction fails. A heartbeat has no request_id, so this handler does not use `write`.
    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Reply<v1::HeartbeatResponse> {
        let request = request.into_inner();
        let heartbeat = parse_heartbeat(&request)?;
        let index = Arc::clone(&self.claim_index);
        let beat = self
            .transact(job_options(&request), ReadAhead::default(), move |tx| lease::heartbeat(tx, &heartbeat, &index));
        Ok(Response::new(v1::HeartbeatResponse { results: convert::to_protos(beat.await?) }))
    }

    async fn complete_task(&self, request: Request<v1::CompleteTaskRequest>) -> Reply<v1::CompleteTaskResponse> {
        self.write_or_reject(request, parse_complete, actions::task::end, |task| v1::CompleteTaskResponse {
            task: Some(task.into()),
        })
        .await
    }

    async fn fail_task(&self, request: Request<v1::FailTaskRequest>) -> Reply<v1::FailTaskResponse> {
        self.write_or_reject(request, parse_fail, actions::task::end, |task| v1::FailTaskResponse {
            task: Some(task.into()),
        })
        .await
    }

    async fn release_task(&self, request: Request<v1::ReleaseTaskRequest>) -> Reply<v1::ReleaseTaskResponse> {
        self.write_or_reject(request, parse_release, actions::task::end, |task| v1::ReleaseTaskResponse {
            task: Some(task.into()),
        })
        .await
    }

    async fn block_task(&self, request: Request<v1::BlockTaskRequest>) -> Reply<v1::BlockTaskResponse> {
        self.write_or_reject(request, parse_block, actions::task::end, |task| v1::BlockTaskResponse {
            task: Some(task.into()),
        })
        .await
    }

    async fn abandon_task(&self, request: Request<v1::AbandonTaskRequest>) -> Reply<v1::AbandonTaskResponse> {
        self.write_or_reject(request, parse_abandon, actions::task::end, |task| v1::AbandonTaskResponse {
            task: Some(task.into()),
        })
        .await
    }

    async fn requeue_task(&self, request: Request<v1::RequeueTaskRequest>) -> Reply<v1::RequeueTaskResponse> {
        self.write(
            request,
            |request| Ok((field::id("task_id", &request.task_id)?, field::text("reason", &request.reason)?)),
            |tx, (task_id, reason)| actions::task::requeue(tx, task_id, reason),
            |task| v1::RequeueTaskResponse { task: Some(task.into()) },
        )
        .await
    }

    async fn requeue_in_progress_tasks(
        &self,
        request: Request<v1::RequeueInProgressTasksRequest>,
    ) -> Reply<v1::RequeueInProgressTasksResponse> {
        self.write(
            request,
            |request| field::id("run_id", &request.run_id),
            |tx, run_id| actions::task::requeue_in_progress(tx, run_id),
            |count| v1::RequeueInProgressTasksResponse { requeued_count: convert::count_to_proto(count) },
        )
        .await
    }

    async fn record_task_attempt(
        &self,
        request: Request<v1::RecordTaskAttemptRequest>,
    ) -> Reply<v1::RecordTaskAttemptResponse> {
        let parse = |request: &v1::RecordTaskAttemptRequest| {
            let run_id = field::id("run_id", &request.run_id)?;
            Ok((run_id, field::id("task_id", &request.task_id)?, attempt::parse_report(request)?))
        };
        self.write(
            request,
            parse,
            |tx, (run_id, task_id, report)| actions::attempt::record(tx, run_id, task_id, report),
            |attempt| v1::RecordTaskAttemptResponse { attempt: Some(attempt.into()) },
        )
        .await
    }

    async fn get_latest_task_attempt(
        &self,
        request: Request<v1::GetLatestTaskAttemptRequest>,
    ) -> Reply<v1::GetLatestTaskAttemptResponse> {
        const ONE: Limit = Limit { rows: 1, bytes: limits::PAGE_BYTES };
        self.read(
            request,
            |request| field::id("task_id", &request.task_id).map(AttemptScope::Task),
            |tx, of| actions::attempt::list_newest(tx, of, ONE),
            |newest| v1::GetLatestTaskAttemptResponse { attempt: newest.into_iter().next().map(Into::into) },
        )
        .await
    }

    async fn list_task_attempts(
        &self,
        request: Request<v1::ListTaskAttemptsRequest>,
    ) -> Reply<v1::ListTaskAttemptsResponse> {
        self.read(
            request,
            attempt::parse_list,
            |tx, (of, limit)| actions::attempt::list_newest(tx, of, *limit),
            |newest| v1::ListTaskAttemptsResponse { attempts: page::take_newest_fitting(newest) },
        )
        .await
    }

    async fn explain_task(&self, request: Request<v1::ExplainTaskRequest>) -> Reply<v1::ExplainTaskResponse> {
        let overlaps = Arc::clone(&self.overlaps);
        let task_id = field::id("task_id", &request.into_inner().task_id)?;
        let found = self.read_until_done(false, move |tx| obstacle::explain(tx, &task_id, &overlaps)).await?;
        Ok(Response::new(v1::ExplainTaskResponse {
            claimable: !found.obstacles.iter().any(Obstacle::applies_to_every_agent),
            reasons: convert::to_protos(found.obstacles),
            is_cut: found.is_cut,
        }))
    }
}

fn parse_heartbeat(request: &v1::HeartbeatRequest) -> Result<Heartbeat> {
    field::batch_entries("beats", request.beats.len())?;
    let mut beats = Vec::with_capacity(request.beats.len());
    for (at, beat) in request.beats.iter().enumerate() {
        let progress = beat.progress.as_ref();
        beats.push(LeaseHeartbeat {
            token: field::id(&format!("beats[{at}].lease_token"), &beat.lease_token)?,
            progress: progress.map(|value| field::json(&format!("beats[{at}].progress"), Some(value))).transpose()?,
        });
    }
    let duration = field::lease_duration("lease_duration", request.lease_duration.as_ref())?;
    Ok(Heartbeat { beats, duration })
}

fn parse_complete(request: &v1::CompleteTaskRequest) -> Result<EndTask> {
    let ending = Ending {
        summary: Some(field::text("summary", &request.summary)?),
        result: field::json("result", request.result.as_ref())?,
        ..Ending::new(EndStatus::Completed)
    };
    end_task::<v1::CompleteTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)
}

fn parse_fail(request: &v1::FailTaskRequest) -> Result<EndTask> {
    let ending = Ending {
        to: EndStatus::Failed,
        summary: Some(field::text("summary", &request.summary)?),
        blocker_signature: field::optional_text("blocker_signature", request.blocker_signature.as_deref())?,
        result: field::json("result", request.result.as_ref())?,
        retry_delay: field::duration_up_to("retry_delay", request.retry_delay.as_ref(), limits::DELAY)?,
    };
    end_task::<v1::FailTaskRequest>(&request.task_id, Some(&request.lease_token), ending)
}

fn parse_release(request: &v1::ReleaseTaskRequest) -> Result<EndTask> {
    let reason = field::text("reason", &request.reason)?;
    let ending = Ending { summary: Some(reason), ..Ending::new(EndStatus::Released) };
    end_task::<v1::ReleaseTaskRequest>(&request.task_id, Some(&request.lease_token), ending)
}

fn parse_block(request: &v1::BlockTaskRequest) -> Result<EndTask> {
    let ending = Ending {
        summary: field::optional_text("summary", request.summary.as_deref())?,
        blocker_signature: field::optional_text("blocker_signature", request.blocker_signature.as_deref())?,
        ..Ending::new(EndStatus::Blocked)
    };
    end_task::<v1::BlockTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)
}

fn parse_abandon(request: &v1::AbandonTaskRequest) -> Result<EndTask> {
    let ending = Ending {
        summary: field::optional_text("summary", request.summary.as_deref())?,
        blocker_signature: field::optional_text("blocker_signature", request.blocker_signature.as_deref())?,
        ..Ending::new(EndStatus::Abandoned)
    };
    end_task::<v1::AbandonTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)
}

fn end_task<R: ApiRequest>(task_id: &str, lease_token: Option<&str>, ending: Ending) -> Result<EndTask> {
    let task_id = field::id("task_id", task_id)?;
    Ok(EndTask { rpc: R::RPC.name, task_id, caller: field::caller(lease_token)?, ending })
}
