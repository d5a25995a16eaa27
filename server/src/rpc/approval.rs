//! This module implements ApprovalService.

use std::time::Duration;

use runhub_api::v1;
use runhub_api::v1::approval_service_server::ApprovalService;
use tonic::{Request, Response};

use super::{Hub, Reply, field};
use crate::actions::approval::{self, ApprovalQuery};
use crate::domain::approval::{Approval, ApprovalDraft, ApprovalRequest, ApprovalVerdict, Decision, ExpiryPolicy};
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::{Tx, approvals};

#[tonic::async_trait]
impl ApprovalService for Hub {
    async fn record_approval(&self, request: Request<v1::RecordApprovalRequest>) -> Reply<v1::RecordApprovalResponse> {
        self.write(request, parse_draft, approval::record, |approval| v1::RecordApprovalResponse {
            approval: Some(approval.into()),
        })
        .await
    }

    async fn request_approval(
        &self,
        request: Request<v1::RequestApprovalRequest>,
    ) -> Reply<v1::RequestApprovalResponse> {
        self.write(request, parse_request, approval::request, |approval| v1::RequestApprovalResponse {
            approval: Some(approval.into()),
        })
        .await
    }

    async fn decide_approval(&self, request: Request<v1::DecideApprovalRequest>) -> Reply<v1::DecideApprovalResponse> {
        self.write(
            request,
            |request| Ok((field::id("approval_id", &request.approval_id)?, parse_decision(request)?)),
            |tx, (id, decision)| approval::decide(tx, id, decision),
            |approval| v1::DecideApprovalResponse { approval: Some(approval.into()) },
        )
        .await
    }

    async fn wait_approval(&self, request: Request<v1::WaitApprovalRequest>) -> Reply<v1::WaitApprovalResponse> {
        let request = request.into_inner();
        let id = field::id("approval_id", &request.approval_id)?;
        let approval = self.wait_for_decision(id, field::wait(request.wait.as_ref())?).await?;
        Ok(Response::new(v1::WaitApprovalResponse { approval: Some(approval.into()) }))
    }

    async fn cancel_approval(&self, request: Request<v1::CancelApprovalRequest>) -> Reply<v1::CancelApprovalResponse> {
        self.write(
            request,
            |request| field::id("approval_id", &request.approval_id),
            |tx, id| approval::cancel(tx, id),
            |approval| v1::CancelApprovalResponse { approval: Some(approval.into()) },
        )
        .await
    }

    async fn consume_approval(
        &self,
        request: Request<v1::ConsumeApprovalRequest>,
    ) -> Reply<v1::ConsumeApprovalResponse> {
        let parse = |request: &v1::ConsumeApprovalRequest| {
            let id = field::id("approval_id", &request.approval_id)?;
            Ok((id, field::required_text("subject_digest", &request.subject_digest)?))
        };
        self.write(
            request,
            parse,
            |tx, (id, digest)| approval::consume(tx, id, digest),
            |approval| v1::ConsumeApprovalResponse { approval: Some(approval.into()) },
        )
        .await
    }

    async fn get_approval(&self, request: Request<v1::GetApprovalRequest>) -> Reply<v1::GetApprovalResponse> {
        self.read(
            request,
            |request| field::id("approval_id", &request.approval_id),
            |tx, id| approvals::get(tx, id),
            |approval| v1::GetApprovalResponse { approval: Some(approval.into()) },
        )
        .await
    }

    async fn get_latest_approval(
        &self,
        request: Request<v1::GetLatestApprovalRequest>,
    ) -> Reply<v1::GetLatestApprovalResponse> {
        self.read(
            request,
            |request| Ok((field::id("run_id", &request.run_id)?, field::name("source", &request.source)?)),
            |tx, (run_id, source)| approval::find_latest(tx, run_id, source),
            |approval| v1::GetLatestApprovalResponse { approval: approval.map(Into::into) },
        )
        .await
    }

    async fn list_approvals(&self, request: Request<v1::ListApprovalsRequest>) -> Reply<v1::ListApprovalsResponse> {
        let parse = |request: &v1::ListApprovalsRequest| {
            Ok(ApprovalQuery {
                run_id: field::id_or_any("run_id", &request.run_id)?,
                verdicts: field::code_set("verdicts", &request.verdicts, ApprovalVerdict::from_code)?,
                source: field::optional_name("source", request.source.as_deref())?,
            })
        };
        self.read_page(
            request,
            parse,
            |tx, query, page| approval::list(tx, query, page.after.unwrap_or(0), page.limit),
            |approval| approval.key,
            |approvals, next_page_token| v1::ListApprovalsResponse { approvals, next_page_token },
        )
        .await
    }
}

impl Hub {
    /// Waits until the approval is no longer pending or the time `wait` has passed, and returns the approval. Fails if
    /// the server shuts down.
    async fn wait_for_decision(&self, id: String, wait: Duration) -> Result<Approval> {
        let get = |id: String| move |tx: &mut dyn Tx| approvals::get(tx, &id);
        let end = self.clock.uptime() + wait;
        let key = self.store.read(get(id.clone())).await?.key;
        let waiter = self.waiters.approvals.register(key);
        let mut draining = self.draining.clone();
        loop {
            // Enable the notification before the read. Otherwise this call would miss a decision that commits directly
            // after the read.
            let notified = waiter.notified();
            let approval = self.store.read_exempt(get(id.clone())).await?;
            if approval.verdict != ApprovalVerdict::Pending || self.clock.uptime() >= end {
                return Ok(approval);
            }
            tokio::select! {
                () = notified => {}
                _ = self.clock.sleep_until(end) => {}
                _ = draining.wait_for(|draining| *draining) => return Err(Error::Draining),
            }
        }
    }
}

fn parse_decision(request: &v1::DecideApprovalRequest) -> Result<Decision> {
    let verdict = field::code("verdict", request.verdict, ApprovalVerdict::from_code)?;
    if !verdict.is_decision() {
        let problem = format!("the decision must be APPROVED, REJECTED or CHANGES_REQUESTED, not {}", verdict.name());
        return Err(Error::field("verdict", problem));
    }
    let digest = request.expected_subject_digest.as_deref();
    Ok(Decision {
        source: field::source("source", &request.source)?,
        verdict,
        rationale: field::text("rationale", &request.rationale)?,
        expected_revision: field::optional_counter("expected_revision", request.expected_revision)?,
        expected_subject_digest: field::optional_text("expected_subject_digest", digest)?,
    })
}

fn parse_request(request: &v1::RequestApprovalRequest) -> Result<ApprovalRequest> {
    if request.expire_time.is_some() && request.ttl.is_some() {
        return Err(Error::field("ttl", "the request sets ttl and expire_time: set only one of these fields"));
    }
    Ok(ApprovalRequest {
        run_id: field::id("run_id", &request.run_id)?,
        task_id: field::optional_id("task_id", request.task_id.as_deref())?,
        title: field::required_text("title", &request.title)?,
        payload: field::json("payload", request.payload.as_ref())?,
        requested_by: field::name_or_blank("requested_by", &request.requested_by)?,
        subject_digest: field::text("subject_digest", &request.subject_digest)?,
        on_expiry: field::code_or_default(
            "on_expiry",
            request.on_expiry,
            ExpiryPolicy::Reject,
            ExpiryPolicy::from_code,
        )?,
        expire_time: field::time("expire_time", request.expire_time.as_ref())?,
        ttl: field::duration_up_to("ttl", request.ttl.as_ref(), limits::DELAY)?,
    })
}

fn parse_draft(request: &v1::RecordApprovalRequest) -> Result<ApprovalDraft> {
    let verdict = field::code("verdict", request.verdict, ApprovalVerdict::from_code)?;
    if verdict == ApprovalVerdict::Pending {
        return Err(Error::field(
            "verdict",
            "a recorded approval must not be PENDING: call RequestApproval to request a decision",
        ));
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
