//! RunService.

use prost_types::FieldMask;
use runhub_api::v1;
use runhub_api::v1::run_service_server::RunService;
use tonic::{Request, Response, Status};

use super::mutate::CallId;
use super::page::PageRequest;
use super::{Hub, field, snapshot};
use crate::actions::{cancel, delete_run, run_control};
use crate::domain::limits;
use crate::domain::run::{self, Run, RunDraft, RunStatus, RunUpdate};
use crate::domain::system_event;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::{Tx, events, runs, tasks};

#[tonic::async_trait]
impl RunService for Hub {
    async fn create_run(
        &self,
        request: Request<v1::CreateRunRequest>,
    ) -> Result<Response<v1::CreateRunResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let draft = parse_draft(&request)?;
        self.mutate(call, move |tx| {
            let run = Run::new(tx.next_key()?, tx.new_id(), draft.clone(), tx.now());
            runs::insert(tx, &run)?;
            events::append(tx, run.key, &system_event::run_created(&run))?;
            Ok(v1::CreateRunResponse { run: Some(run.into()) })
        })
        .await
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Result<Response<v1::GetRunResponse>, Status> {
        let id = field::id("run_id", &request.into_inner().run_id)?;
        let run = self.store.read(move |tx| runs::get(tx, &id)).await?;
        Ok(Response::new(v1::GetRunResponse { run: Some(run.into()) }))
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        let mut request = request.into_inner();
        let page = PageRequest::take(&mut request)?;
        let statuses = field::code_set("statuses", &request.statuses, RunStatus::from_code)?;
        let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit);
        let found = self.store.read(move |tx| runs::list(tx, statuses, before, limit)).await?;
        let (runs, next_page_token) = page.answer(found, |run| run.key);
        Ok(Response::new(v1::ListRunsResponse { runs, next_page_token }))
    }

    async fn update_run(
        &self,
        request: Request<v1::UpdateRunRequest>,
    ) -> Result<Response<v1::UpdateRunResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("run_id", &request.run_id)?;
        let update = parse_update(&request)?;
        self.mutate(call, move |tx| {
            let run = change(tx, &id, |run, now| run.updated(&update, now))?;
            if let Some(Some(task_id)) = &update.current_task_id {
                tasks::key_in_run(tx, run.key, task_id)?;
            }
            Ok(v1::UpdateRunResponse { run: Some(run.into()) })
        })
        .await
    }

    async fn increment_cycle(
        &self,
        request: Request<v1::IncrementCycleRequest>,
    ) -> Result<Response<v1::IncrementCycleResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("run_id", &request.run_id)?;
        self.mutate(call, move |tx| {
            let run = change(tx, &id, |run, now| counted(run, now, |run| &mut run.cycle_count))?;
            Ok(v1::IncrementCycleResponse { run: Some(run.into()) })
        })
        .await
    }

    async fn increment_replan(
        &self,
        request: Request<v1::IncrementReplanRequest>,
    ) -> Result<Response<v1::IncrementReplanResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("run_id", &request.run_id)?;
        self.mutate(call, move |tx| {
            let run = change(tx, &id, |run, now| counted(run, now, |run| &mut run.replan_count))?;
            Ok(v1::IncrementReplanResponse { run: Some(run.into()) })
        })
        .await
    }

    async fn pause_run(&self, request: Request<v1::PauseRunRequest>) -> Result<Response<v1::PauseRunResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("run_id", &request.run_id)?;
        let reason = field::text("reason", &request.reason)?;
        self.mutate(call, move |tx| {
            let run = runs::get(tx, &id)?;
            let run = run_control::pause(tx, &run, &reason)?;
            Ok(v1::PauseRunResponse { run: Some(run.into()) })
        })
        .await
    }

    async fn resume_run(
        &self,
        request: Request<v1::ResumeRunRequest>,
    ) -> Result<Response<v1::ResumeRunResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("run_id", &request.run_id)?;
        let reason = field::text("reason", &request.reason)?;
        self.mutate(call, move |tx| {
            let run = runs::get(tx, &id)?;
            let run = run_control::resume(tx, &run, &reason)?;
            Ok(v1::ResumeRunResponse { run: Some(run.into()) })
        })
        .await
    }

    async fn cancel_run(
        &self,
        request: Request<v1::CancelRunRequest>,
    ) -> Result<Response<v1::CancelRunResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("run_id", &request.run_id)?;
        let reason = field::text("reason", &request.reason)?;
        let grace = field::duration_up_to("grace", request.grace.as_ref(), limits::GRACE)?;
        let grace = grace.unwrap_or(limits::DEFAULT_GRACE);
        self.mutate(call, move |tx| {
            let run = runs::get(tx, &id)?;
            let run = cancel::cancel(tx, &run, &reason, grace)?;
            Ok(v1::CancelRunResponse { run: Some(run.into()) })
        })
        .await
    }

    async fn delete_run(
        &self,
        request: Request<v1::DeleteRunRequest>,
    ) -> Result<Response<v1::DeleteRunResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("run_id", &request.run_id)?;
        let expected_revision = field::counter("expected_revision", request.expected_revision)?;
        self.mutate(call, move |tx| {
            delete_run::delete(tx, &id, expected_revision)?;
            Ok(v1::DeleteRunResponse {})
        })
        .await
    }

    async fn get_run_snapshot(
        &self,
        request: Request<v1::GetRunSnapshotRequest>,
    ) -> Result<Response<v1::GetRunSnapshotResponse>, Status> {
        let request = request.into_inner();
        let id = field::id("run_id", &request.run_id)?;
        let limits = snapshot::Limits::parse(&request)?;
        let snapshot = self.store.read(move |tx| snapshot::take(tx, &id, &limits)).await?;
        Ok(Response::new(v1::GetRunSnapshotResponse { snapshot: Some(snapshot) }))
    }
}

fn parse_draft(request: &v1::CreateRunRequest) -> Result<RunDraft> {
    let draft = RunDraft {
        goal: field::required_text("goal", &request.goal)?,
        repo_path: field::path("repo_path", &request.repo_path)?,
        labels: field::labels("labels", &request.labels)?,
    };
    run::check_labels(&draft.labels).map(|()| draft)
}

fn parse_update(request: &v1::UpdateRunRequest) -> Result<RunUpdate> {
    let status = request.status.map(|code| field::code("status", code, RunStatus::from_code)).transpose()?;
    if let Some(status) = status.filter(|status| !status.can_be_set()) {
        return Err(Error::field("status", format!("{} is not for UpdateRun to set", status.name())));
    }
    let summary = field::optional_text("summary", request.summary.as_deref())?;
    let current_task_id = field::optional_id("current_task_id", request.current_task_id.as_deref())?;
    let expected_revision = field::counter("expected_revision", request.expected_revision)?;
    let paths = masked(request.update_mask.as_ref(), request)?;
    let masked = |name: &str| paths.contains(&name);
    if masked("status") && status.is_none() {
        return Err(Error::field("status", "is in update_mask and unset: a status can't be cleared"));
    }
    Ok(RunUpdate {
        status: status.filter(|_| masked("status")),
        summary: masked("summary").then_some(summary),
        current_task_id: masked("current_task_id").then_some(current_task_id),
        expected_revision,
    })
}

/// The paths of the mask; without any, those of the fields that are set.
fn masked<'a>(mask: Option<&'a FieldMask>, request: &v1::UpdateRunRequest) -> Result<Vec<&'a str>> {
    const PATHS: [&str; 3] = ["status", "summary", "current_task_id"];
    let set = [request.status.is_some(), request.summary.is_some(), request.current_task_id.is_some()];
    let paths: Vec<&str> = mask.iter().flat_map(|mask| &mask.paths).map(String::as_str).collect();
    if paths.is_empty() {
        return Ok(PATHS.into_iter().zip(set).filter_map(|(path, is_set)| is_set.then_some(path)).collect());
    }
    match paths.iter().find(|path| !PATHS.contains(path)) {
        Some(unknown) => Err(Error::field("update_mask", format!("{unknown:?} is none of {}", PATHS.join(", ")))),
        None => Ok(paths),
    }
}

fn counted(run: &Run, now: Timestamp, count: impl Fn(&mut Run) -> &mut i32) -> Result<Run> {
    let mut next = run.clone();
    let number = count(&mut next);
    *number = number.saturating_add(1);
    next.touch(now);
    Ok(next)
}

/// Loads a run, decides, and saves what has changed, with its event.
fn change(tx: &mut dyn Tx, id: &str, decide: impl Fn(&Run, Timestamp) -> Result<Run>) -> Result<Run> {
    let run = runs::get(tx, id)?;
    let next = decide(&run, tx.now())?;
    if next != run {
        run_control::save_moved(tx, &run, &next)?;
        events::append(tx, run.key, &system_event::run_updated(&run, &next))?;
    }
    Ok(next)
}
