//! This module implements `runhub approve` and `runhub reject`, which decide an approval.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use runhub_api::v1;
use runhub_api::v1::ApprovalVerdict;

use super::out::printable::first_line;
use super::out::{DIM, Line, Out};
use super::{Failure, ServerArgs, approvals, json, table};

#[derive(Args)]
struct DecisionArgs {
    /// The id of the approval, as listed by runhub approvals.
    #[arg(value_name = "APPROVAL")]
    approval: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The name that the server records as the source of the decision.
    #[arg(long = "as", value_name = "NAME", default_value = "human")]
    source: String,

    /// If the approval has another subject digest, fail, so that the decision applies to the version of the subject
    /// that you reviewed. Default: accept any digest.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,

    /// Print the decided approval as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    decision: DecisionArgs,

    /// The reason for the approval. Default: no reason.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    because: String,
}

#[derive(Args)]
pub struct RejectArgs {
    #[command(flatten)]
    decision: DecisionArgs,

    /// The reason for the rejection, from which the requester learns the next step.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    because: String,

    /// Request changes instead of rejecting the approval.
    #[arg(long)]
    request_changes: bool,
}

pub async fn approve(args: ApproveArgs) -> Result<(), Failure> {
    decide(args.decision, ApprovalVerdict::Approved, args.because).await
}

pub async fn reject(args: RejectArgs) -> Result<(), Failure> {
    let verdict = match args.request_changes {
        true => ApprovalVerdict::ChangesRequested,
        false => ApprovalVerdict::Rejected,
    };
    decide(args.decision, verdict, args.because).await
}

async fn decide(args: DecisionArgs, verdict: ApprovalVerdict, rationale: String) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let request = v1::DecideApprovalRequest {
        approval_id: args.approval,
        source: args.source,
        verdict: verdict.into(),
        rationale,
        expected_subject_digest: args.digest,
        ..v1::DecideApprovalRequest::default()
    };
    let approval = client.decide_approval(request).await?.approval.unwrap_or_default();
    if args.json {
        return json::print("Approval", &approval);
    }
    Ok(Out::stdout().print(format_decision(&approval))?)
}

/// Returns a decided approval as one line.
fn format_decision(approval: &v1::Approval) -> Line {
    let verdict = approval.verdict();
    let style = table::verdict_style(verdict);
    let word = table::lowercase_name(verdict.as_str_name(), "APPROVAL_VERDICT_").replace('_', " ");
    let title = first_line(approvals::title(approval));
    let line = Line::new().styled(style, word).text(format_args!(" by {}: {title}  ", approval.source));
    line.styled(DIM, &approval.id)
}
