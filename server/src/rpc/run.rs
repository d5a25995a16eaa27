//! This module implements RunService.

use prost_types::FieldMask;
use runhub_api::v1;
use runhub_api::v1::run_service_server::RunService;
use tonic::{Request, Response};

use super::{Hub, Reply, field, snapshot};
use crate::actions::{cancel, deletion, run};
use crate::domain::limits;
use crate::domain::run::{RunDraft, RunStatus, RunUpdate, check_labels};
use crate::error::{Error, Result};
use crate::store::{Tx, runs};

#[tonic::async_trait]
impl RunService for Hub {
    async fn create_run(&self, request: Request<v1::CreateRunRequest>) -> Reply<v1::CreateRunResponse> {
        self.write(request, parse_draft, run::create, |run| v1::CreateRunResponse { run: Some(run.into()) }).await
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Reply<v1::GetRunResponse> {
        self.read(
            request,
            |request| field::id("run_id", &request.run_id),
            |tx, run_id| runs::get(tx, run_id),
            |run| v1::GetRunResponse { run: Some(run.into()) },
        )
        .await
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Reply<v1::ListRunsResponse> {
        self.read_page(
            request,
            |request| field::code_set("statuses", &request.statuses, RunStatus::from_code),
            // Runs are listed from newest to oldest, so the run keys on the next page are lower than all run keys on
            // the previous page.
            |tx, statuses, page| runs::list(tx, *statuses, page.after.unwrap_or(i64::MAX), page.limit),
            |run| run.key,
            |runs, next_page_token| v1::ListRunsResponse { runs, next_page_token },
        )
        .await
    }

    async fn update_run(&self, request: Request<v1::UpdateRunRequest>) -> Reply<v1::UpdateRunResponse> {
        self.write(
            request,
            |request| Ok((field::id("run_id", &request.run_id)?, parse_update(request)?)),
            |tx, (run_id, update)| run::update(tx, run_id, update),
            |run| v1::UpdateRunResponse { run: Some(run.into()) },
        )
        .await
    }

    async fn increment_cycle(&self, request: Request<v1::IncrementCycleRequest>) -> Reply<v1::IncrementCycleResponse> {
        self.write(
            request,
            |request| field::id("run_id", &request.run_id),
            |tx, run_id| run::increment_cycle(tx, run_id),
            |run| v1::IncrementCycleResponse { run: Some(run.into()) },
        )
        .await
    }

    async fn increment_replan(
        &self,
        request: Request<v1::IncrementReplanRequest>,
    ) -> Reply<v1::IncrementReplanResponse> {
        self.write(
            request,
            |request| field::id("run_id", &request.run_id),
            |tx, run_id| run::increment_replan(tx, run_id),
            |run| v1::IncrementReplanResponse { run: Some(run.into()) },
        )
        .await
    }

    async fn pause_run(&self, request: Request<v1::PauseRunRequest>) -> Reply<v1::PauseRunResponse> {
        self.write(
            request,
            |request| Ok((field::id("run_id", &request.run_id)?, field::text("reason", &request.reason)?)),
            |tx, (run_id, reason)| run::pause(tx, run_id, reason),
            |run| v1::PauseRunResponse { run: Some(run.into()) },
        )
        .await
    }

    async fn resume_run(&self, request: Request<v1::ResumeRunRequest>) -> Reply<v1::ResumeRunResponse> {
        self.write(
            request,
            |request| Ok((field::id("run_id", &request.run_id)?, field::text("reason", &request.reason)?)),
            |tx, (run_id, reason)| run::resume(tx, run_id, reason),
            |run| v1::ResumeRunResponse { run: Some(run.into()) },
        )
        .await
    }

    async fn cancel_run(&self, request: Request<v1::CancelRunRequest>) -> Reply<v1::CancelRunResponse> {
        let parse = |request: &v1::CancelRunRequest| {
            let run_id = field::id("run_id", &request.run_id)?;
            let reason = field::text("reason", &request.reason)?;
            let grace = field::duration_up_to("grace", request.grace.as_ref(), limits::GRACE)?;
            Ok((run_id, reason, grace.unwrap_or(limits::DEFAULT_GRACE)))
        };
        self.write(
            request,
            parse,
            |tx, (run_id, reason, grace)| cancel::cancel(tx, run_id, reason, *grace),
            |run| v1::CancelRunResponse { run: Some(run.into()) },
        )
        .await
    }

    async fn delete_run(&self, request: Request<v1::DeleteRunRequest>) -> Reply<v1::DeleteRunResponse> {
        let parse = |request: &v1::DeleteRunRequest| {
            let run_id = field::id("run_id", &request.run_id)?;
            Ok((run_id, field::optional_counter("expected_revision", request.expected_revision)?))
        };
        self.write(
            request,
            parse,
            |tx, (run_id, expected_revision)| deletion::delete(tx, run_id, *expected_revision),
            |()| v1::DeleteRunResponse {},
        )
        .await
    }

    async fn get_run_snapshot(&self, request: Request<v1::GetRunSnapshotRequest>) -> Reply<v1::GetRunSnapshotResponse> {
        let request = request.into_inner();
        let run_id = field::id("run_id", &request.run_id)?;
        let limits = snapshot::parse_limits(&(&request).into())?;
        let reading = self.snapshots.start().await?;
        let log_id = self.store.log_id().to_owned();
        let read = move |tx: &mut dyn Tx| {
            let _reading = &reading;
            snapshot::read_whole(tx, &run_id, &log_id, &limits)
        };
        let snapshot = self.store.read(read).await?;
        Ok(Response::new(v1::GetRunSnapshotResponse { snapshot: Some(snapshot) }))
    }
}

fn parse_draft(request: &v1::CreateRunRequest) -> Result<RunDraft> {
    let draft = RunDraft {
        goal: field::required_text("goal", &request.goal)?,
        repo_path: field::path("repo_path", &request.repo_path)?,
        labels: field::labels("labels", &request.labels)?,
    };
    check_labels(&draft.labels)?;
    Ok(draft)
}

fn parse_update(request: &v1::UpdateRunRequest) -> Result<RunUpdate> {
    let status = request.status.map(|code| field::code("status", code, RunStatus::from_code)).transpose()?;
    if let Some(status) = status.filter(|status| !status.can_be_set()) {
        let problem = format!("UpdateRun can't set the status {}: call PauseRun or CancelRun instead", status.name());
        return Err(Error::field("status", problem));
    }
    let summary = field::optional_text("summary", request.summary.as_deref())?;
    let current_task_id = field::optional_id("current_task_id", request.current_task_id.as_deref())?;
    let expected_revision = field::optional_counter("expected_revision", request.expected_revision)?;
    let paths = parse_update_mask(request.update_mask.as_ref(), request)?;
    let is_updated = |name: &str| paths.contains(&name);
    if is_updated("status") && status.is_none() {
        return Err(Error::field(
            "status",
            "update_mask contains status, but the request has no status: set status, or remove status from update_mask",
        ));
    }
    Ok(RunUpdate {
        status: status.filter(|_| is_updated("status")),
        summary: is_updated("summary").then_some(summary),
        current_task_id: is_updated("current_task_id").then_some(current_task_id),
        expected_revision,
    })
}

/// Returns the paths in the update mask. If the mask is empty, the function returns the paths of all fields that are
/// set. Fails if the mask contains an unknown path.
fn parse_update_mask<'a>(mask: Option<&'a FieldMask>, request: &v1::UpdateRunRequest) -> Result<Vec<&'a str>> {
    const PATHS: [&str; 3] = ["status", "summary", "current_task_id"];
    let paths: Vec<&str> = mask.iter().flat_map(|mask| &mask.paths).map(String::as_str).collect();
    if paths.is_empty() {
        let is_set = [request.status.is_some(), request.summary.is_some(), request.current_task_id.is_some()];
        return Ok(PATHS.into_iter().zip(is_set).filter_map(|(path, is_set)| is_set.then_some(path)).collect());
    }
    match paths.iter().find(|path| !PATHS.contains(path)) {
        Some(unknown) => Err(Error::field(
            "update_mask",
            format!("the path {unknown:?} is not a field that UpdateRun can update: use only {}", PATHS.join(", ")),
        )),
        None => Ok(paths),
    }
}
