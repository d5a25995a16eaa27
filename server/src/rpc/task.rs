//! TaskService.

use runhub_api::v1;
use runhub_api::v1::task_service_server::TaskService;
use tonic::{Request, Response, Status};

use super::attempt::Whose;
use super::end_task::{self, EndTask};
use super::mutate::{CallId, Mutation, Outcome};
use super::page::PageRequest;
use super::{Hub, attempt, convert, field, page, plan};
use crate::domain::json::Json;
use crate::domain::limits;
use crate::domain::system_event;
use crate::domain::task::{Caller, EndStatus, Ending, Task, TaskStatus};
use crate::error::{Error, Result};
use crate::store::{Limit, Tx, attempts, events, runs, tasks};

#[tonic::async_trait]
impl TaskService for Hub {
    async fn add_tasks(&self, request: Request<v1::AddTasksRequest>) -> Result<Response<v1::AddTasksResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        let drafts = plan::parse_drafts(&request.tasks)?;
        self.mutate(call, move |tx| {
            let tasks = plan::add(tx, &run_id, &drafts)?;
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
            let replaced = plan::replace(tx, &run_id, &drafts, expected, keep)?;
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
        let run_id = field::id_or_any("run_id", &request.run_id)?;
        let agent_id = field::name("agent_id", &request.agent_id)?;
        let capabilities = field::names("capabilities", &request.capabilities)?;
        self.mutate_or_refuse(call, refuse_if_stale, move |tx| {
            let claim = claim(tx, run_id.as_deref(), &agent_id, &capabilities)?;
            Ok(Outcome::Done(v1::ClaimTaskResponse { claim }))
        })
        .await
    }

    async fn complete_task(
        &self,
        request: Request<v1::CompleteTaskRequest>,
    ) -> Result<Response<v1::CompleteTaskResponse>, Status> {
        let request = request.into_inner();
        let ending = Ending {
            to: EndStatus::Completed,
            summary: Some(field::text("summary", &request.summary)?),
            blocker_signature: None,
            result: field::json("result", request.result.as_ref())?,
        };
        let end = parse_end::<v1::CompleteTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)?;
        self.end_task(&request, end, |task| v1::CompleteTaskResponse { task: Some(task.into()) }).await
    }

    async fn block_task(
        &self,
        request: Request<v1::BlockTaskRequest>,
    ) -> Result<Response<v1::BlockTaskResponse>, Status> {
        let request = request.into_inner();
        let ending =
            parse_ending(EndStatus::Blocked, request.summary.as_deref(), request.blocker_signature.as_deref())?;
        let end = parse_end::<v1::BlockTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)?;
        self.end_task(&request, end, |task| v1::BlockTaskResponse { task: Some(task.into()) }).await
    }

    async fn abandon_task(
        &self,
        request: Request<v1::AbandonTaskRequest>,
    ) -> Result<Response<v1::AbandonTaskResponse>, Status> {
        let request = request.into_inner();
        let ending =
            parse_ending(EndStatus::Abandoned, request.summary.as_deref(), request.blocker_signature.as_deref())?;
        let end = parse_end::<v1::AbandonTaskRequest>(&request.task_id, request.lease_token.as_deref(), ending)?;
        self.end_task(&request, end, |task| v1::AbandonTaskResponse { task: Some(task.into()) }).await
    }

    async fn requeue_in_progress_tasks(
        &self,
        request: Request<v1::RequeueInProgressTasksRequest>,
    ) -> Result<Response<v1::RequeueInProgressTasksResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        self.mutate(call, move |tx| {
            let requeued_count = count(end_task::requeue_in_progress(tx, &run_id)?);
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
}

impl Hub {
    async fn end_task<R, T>(&self, request: &R, end: EndTask, reply: fn(Task) -> T) -> Result<Response<T>, Status>
    where
        R: Mutation,
        T: prost::Message + Default + 'static,
    {
        let call = CallId::of(request)?;
        self.mutate_or_refuse(
            call,
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

fn parse_end<R: Mutation>(task_id: &str, lease_token: Option<&str>, ending: Ending) -> Result<EndTask> {
    let caller = field::lease_token(lease_token)?.map_or(Caller::Operator, Caller::Holder);
    Ok(EndTask { rpc: R::RPC, task_id: field::id("task_id", task_id)?, caller, ending })
}

fn parse_ending(to: EndStatus, summary: Option<&str>, blocker_signature: Option<&str>) -> Result<Ending> {
    Ok(Ending {
        to,
        summary: field::optional_text("summary", summary)?,
        blocker_signature: field::optional_text("blocker_signature", blocker_signature)?,
        result: Json::null(),
    })
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

/// Gives out the next claimable task, if there is one.
fn claim(tx: &mut dyn Tx, run_id: Option<&str>, agent_id: &str, capabilities: &[String]) -> Result<Option<v1::Claim>> {
    let run = run_id.map(|id| runs::get(tx, id)).transpose()?;
    if let Some(run) = &run {
        run.check_takes_work()?;
        if !run.gives_out_tasks() {
            return Ok(None);
        }
    }
    let Some(key) = tasks::next_claimable(tx, run.map(|run| run.key), capabilities)? else { return Ok(None) };
    let token = tx.new_token();
    let task = tasks::by_key(tx, key)?.claimed(agent_id, token.clone(), tx.now());
    tasks::save(tx, &task)?;
    let attempt_key = attempts::open(tx, &task)?;
    runs::note_served(tx, task.run_key, attempt_key)?;
    events::append(tx, task.run_key, &system_event::task_claimed(&task))?;
    Ok(Some(v1::Claim { attempt_number: task.attempt_count, lease_token: token, task: Some(task.into()) }))
}

/// A claim is given again only while it is good: never another task, never a token that is refused.
fn refuse_if_stale(tx: &mut dyn Tx, response: &v1::ClaimTaskResponse) -> Result<Option<Error>> {
    let Some(claim) = &response.claim else { return Ok(None) };
    let task_id = claim.task.as_ref().map(|task| task.id.as_str()).unwrap_or_default();
    let task = tasks::get(tx, task_id)?;
    if task.is_held_by(&claim.lease_token) {
        return Ok(None);
    }
    end_task::stale_token(tx, &task, &claim.lease_token).map(|stale| Some(Error::StaleLease(stale)))
}
