//! ApprovalService.

use std::time::Duration;

use runhub_api::v1;
use runhub_api::v1::approval_service_server::ApprovalService;
use tonic::{Request, Response, Status};

use super::mutate::CallId;
use super::page::PageRequest;
use super::{Hub, field};
use crate::actions::approval;
use crate::domain::Key;
use crate::domain::approval::{Approval, ApprovalVerdict, Decision, ExpiryPolicy};
use crate::domain::json::Json;
use crate::domain::limits;
use crate::domain::system_event;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::{Tx, approvals, runs, tasks};

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

    async fn request_approval(
        &self,
        request: Request<v1::RequestApprovalRequest>,
    ) -> Result<Response<v1::RequestApprovalResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let question = Question::parse(&request)?;
        self.mutate(call, move |tx| {
            let approval = question.ask(tx)?;
            Ok(v1::RequestApprovalResponse { approval: Some(approval.into()) })
        })
        .await
    }

    async fn decide_approval(
        &self,
        request: Request<v1::DecideApprovalRequest>,
    ) -> Result<Response<v1::DecideApprovalResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("approval_id", &request.approval_id)?;
        let decision = parse_decision(&request)?;
        self.mutate(call, move |tx| {
            let approval = approval::decide(tx, &id, &decision)?;
            Ok(v1::DecideApprovalResponse { approval: Some(approval.into()) })
        })
        .await
    }

    async fn wait_approval(
        &self,
        request: Request<v1::WaitApprovalRequest>,
    ) -> Result<Response<v1::WaitApprovalResponse>, Status> {
        let request = request.into_inner();
        let id = field::id("approval_id", &request.approval_id)?;
        let wait = field::wait(request.wait.as_ref())?;
        let approval = self.wait_for_decision(id, wait).await?;
        Ok(Response::new(v1::WaitApprovalResponse { approval: Some(approval.into()) }))
    }

    async fn cancel_approval(
        &self,
        request: Request<v1::CancelApprovalRequest>,
    ) -> Result<Response<v1::CancelApprovalResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("approval_id", &request.approval_id)?;
        self.mutate(call, move |tx| {
            let approval = approval::cancel(tx, &id)?;
            Ok(v1::CancelApprovalResponse { approval: Some(approval.into()) })
        })
        .await
    }

    async fn consume_approval(
        &self,
        request: Request<v1::ConsumeApprovalRequest>,
    ) -> Result<Response<v1::ConsumeApprovalResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let id = field::id("approval_id", &request.approval_id)?;
        let digest = field::required_text("subject_digest", &request.subject_digest)?;
        self.mutate(call, move |tx| {
            let approval = approval::consume(tx, &id, &digest)?;
            Ok(v1::ConsumeApprovalResponse { approval: Some(approval.into()) })
        })
        .await
    }

    async fn get_approval(
        &self,
        request: Request<v1::GetApprovalRequest>,
    ) -> Result<Response<v1::GetApprovalResponse>, Status> {
        let id = field::id("approval_id", &request.into_inner().approval_id)?;
        let approval = self.store.read(move |tx| approvals::get(tx, &id)).await?;
        Ok(Response::new(v1::GetApprovalResponse { approval: Some(approval.into()) }))
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

impl Hub {
    /// The approval as soon as it is decided, or as it is when the wait is over.
    async fn wait_for_decision(&self, id: String, wait: Duration) -> Result<Approval> {
        let get = |id: String| move |tx: &mut dyn Tx| approvals::get(tx, &id);
        let end = self.clock.now().plus(wait);
        let waiter = self.waiters.approvals.register(self.store.read(get(id.clone())).await?.key);
        let mut draining = self.draining.clone();
        loop {
            // Before the look: what is committed after it rings.
            let ring = waiter.notified();
            let approval = self.store.read_exempt(get(id.clone())).await?;
            if approval.verdict != ApprovalVerdict::Pending || self.clock.now() >= end {
                return Ok(approval);
            }
            tokio::select! {
                () = ring => {}
                _ = self.clock.sleep_until(end) => {}
                _ = draining.wait_for(|draining| *draining) => return Err(Error::Draining),
            }
        }
    }
}

fn parse_decision(request: &v1::DecideApprovalRequest) -> Result<Decision> {
    let verdict = field::code("verdict", request.verdict, ApprovalVerdict::from_code)?;
    if !verdict.is_decision() {
        return Err(Error::field("verdict", format!("{} is no decision", verdict.name())));
    }
    let digest = request.expected_subject_digest.as_deref();
    Ok(Decision {
        source: field::source("source", &request.source)?,
        verdict,
        rationale: field::text("rationale", &request.rationale)?,
        expected_revision: field::counter("expected_revision", request.expected_revision)?,
        expected_subject_digest: field::optional_text("expected_subject_digest", digest)?,
    })
}

/// An approval as it is asked for.
struct Question {
    run_id: String,
    task_id: Option<String>,
    title: String,
    payload: Json,
    requested_by: String,
    subject_digest: String,
    on_expiry: ExpiryPolicy,
    expire_time: Option<Timestamp>,
    ttl: Option<Duration>,
}

impl Question {
    fn parse(request: &v1::RequestApprovalRequest) -> Result<Self> {
        if request.expire_time.is_some() && request.ttl.is_some() {
            return Err(Error::field("ttl", "is set beside expire_time: only one of them can be meant"));
        }
        Ok(Self {
            run_id: field::id("run_id", &request.run_id)?,
            task_id: field::optional_id("task_id", request.task_id.as_deref())?,
            title: field::required_text("title", &request.title)?,
            payload: field::json("payload", request.payload.as_ref())?,
            requested_by: field::plain_name("requested_by", &request.requested_by)?,
            subject_digest: field::text("subject_digest", &request.subject_digest)?,
            on_expiry: field::code_or("on_expiry", request.on_expiry, ExpiryPolicy::Reject, ExpiryPolicy::from_code)?,
            expire_time: field::time("expire_time", request.expire_time.as_ref())?,
            ttl: field::duration_up_to("ttl", request.ttl.as_ref(), limits::DELAY)?,
        })
    }

    fn ask(&self, tx: &mut dyn Tx) -> Result<Approval> {
        let run = runs::get(tx, &self.run_id)?;
        run.check_takes_work()?;
        let now = tx.now();
        let approval = Approval {
            title: self.title.clone(),
            payload: self.payload.clone(),
            requested_by: self.requested_by.clone(),
            subject_digest: self.subject_digest.clone(),
            on_expiry: self.on_expiry,
            expire_time: self.expire_time.or(self.ttl.map(|ttl| now.plus(ttl))),
            ..blank(tx, run.key, &self.run_id, self.task_id.as_deref())?
        };
        approval::add(tx, &approval, &system_event::approval_requested(&approval))?;
        Ok(approval)
    }
}

/// A new approval that says nothing yet.
fn blank(tx: &mut dyn Tx, run_key: Key, run_id: &str, task_id: Option<&str>) -> Result<Approval> {
    let task_key = task_id.map(|id| tasks::key_in_run(tx, run_key, id)).transpose()?;
    Ok(Approval::new(tx.next_key()?, tx.new_id(), (run_key, run_id), task_key.zip(task_id), tx.now()))
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
    let now = tx.now();
    let approval = Approval {
        source: draft.source.clone(),
        verdict: draft.verdict,
        rationale: draft.rationale.clone(),
        payload: draft.payload.clone(),
        decide_time: Some(now),
        ..blank(tx, run_key, &draft.run_id, draft.task_id.as_deref())?
    };
    approval::add(tx, &approval, &system_event::approval_recorded(&approval))?;
    Ok(approval)
}
