//! ApprovalService.

use runhub_api::v1;
use runhub_api::v1::approval_service_server::ApprovalService;
use tonic::{Request, Response, Status};

use super::mutate::CallId;
use super::page::PageRequest;
use super::{Hub, field};
use crate::domain::approval::{Approval, ApprovalVerdict};
use crate::domain::json::Json;
use crate::domain::system_event;
use crate::error::{Error, Result};
use crate::store::{Tx, approvals, events, runs, tasks};

#[tonic::async_trait]
impl ApprovalService for Hub {
    async fn record_approval(
        &self,
        request: Request<v1::RecordApprovalRequest>,
    ) -> Result<Response<v1::RecordApprovalResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let draft = parse_draft(&request)?;
        self.mutate(call, move |tx| {
            let approval = record(tx, &draft)?;
            Ok(v1::RecordApprovalResponse { approval: Some(approval.into()) })
        })
        .await
    }

    async fn get_latest_approval(
        &self,
        request: Request<v1::GetLatestApprovalRequest>,
    ) -> Result<Response<v1::GetLatestApprovalResponse>, Status> {
        let request = request.into_inner();
        let run_id = field::id("run_id", &request.run_id)?;
        let source = field::name("source", &request.source)?;
        let latest = self.store.read(move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            approvals::latest(tx, run_key, &source)
        });
        Ok(Response::new(v1::GetLatestApprovalResponse { approval: latest.await?.map(Into::into) }))
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let mut request = request.into_inner();
        let run_id = field::id_or_any("run_id", &request.run_id)?;
        let page = PageRequest::take(&mut request)?;
        let verdicts = field::code_set("verdicts", &request.verdicts, ApprovalVerdict::from_code)?;
        let source = field::optional_name("source", request.source.as_deref())?;
        let (after, limit) = (page.after.unwrap_or(0), page.limit);
        let found = self.store.read(move |tx| {
            let run_key = run_id.as_deref().map(|id| runs::key(tx, id)).transpose()?;
            let filter = approvals::Filter { run_key, verdicts, source: source.clone() };
            approvals::list(tx, &filter, after, limit)
        });
        let found = found.await?;
        let (approvals, next_page_token) = page.answer(found, |approval| approval.key);
        Ok(Response::new(v1::ListApprovalsResponse { approvals, next_page_token }))
    }
}

struct ApprovalDraft {
    run_id: String,
    task_id: Option<String>,
    source: String,
    verdict: ApprovalVerdict,
    rationale: String,
    payload: Json,
}

fn parse_draft(request: &v1::RecordApprovalRequest) -> Result<ApprovalDraft> {
    let verdict = field::code("verdict", request.verdict, ApprovalVerdict::from_code)?;
    if verdict == ApprovalVerdict::Pending {
        return Err(Error::field("verdict", "is PENDING: only what was decided can be recorded"));
    }
    Ok(ApprovalDraft {
        run_id: field::id("run_id", &request.run_id)?,
        task_id: field::optional_id("task_id", request.task_id.as_deref())?,
        source: field::source("source", &request.source)?,
        verdict,
        rationale: field::text("rationale", &request.rationale)?,
        payload: field::json("payload", request.payload.as_ref())?,
    })
}

fn record(tx: &mut dyn Tx, draft: &ApprovalDraft) -> Result<Approval> {
    let run_key = runs::key(tx, &draft.run_id)?;
    let task_key = draft.task_id.as_deref().map(|id| tasks::key_in_run(tx, run_key, id)).transpose()?;
    let approval = Approval {
        key: tx.next_key()?,
        id: tx.new_id(),
        run_id: draft.run_id.clone(),
        task_id: draft.task_id.clone(),
        source: draft.source.clone(),
        verdict: draft.verdict,
        rationale: draft.rationale.clone(),
        payload: draft.payload.clone(),
        decide_time: Some(tx.now()),
        revision: 1,
        create_time: tx.now(),
    };
    approvals::insert(tx, run_key, task_key, &approval)?;
    events::append(tx, run_key, &system_event::approval_recorded(&approval, task_key))?;
    Ok(approval)
}
