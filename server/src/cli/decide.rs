//! `runhub approve` and `runhub reject`: decide an approval.

use std::io::Write;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use runhub_api::v1;
use runhub_api::v1::ApprovalVerdict;

use super::{Failure, ServerArgs, approvals, json, table};

#[derive(Args)]
struct DecisionArgs {
    /// The approval's id, as listed by runhub approvals
    #[arg(value_name = "APPROVAL")]
    approval: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The name under which the decision is recorded
    #[arg(long = "as", value_name = "NAME", default_value = "human")]
    source: String,

    /// Decide only if the approval has this subject digest, so that the decision is about what you reviewed
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,

    /// Print the approval as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    decision: DecisionArgs,

    /// The reason
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    because: String,
}

#[derive(Args)]
pub struct RejectArgs {
    #[command(flatten)]
    decision: DecisionArgs,

    /// The reason, which tells the requester what to do next
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    because: String,

    /// Request changes instead of rejecting
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
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", json::line("Approval", &approval)?)?;
    } else {
        writeln!(out, "{}", line(&approval))?;
    }
    Ok(())
}

/// Returns the decision in one line.
fn line(approval: &v1::Approval) -> String {
    let verdict = approval.verdict();
    let style = table::verdict_style(verdict);
    let word = table::word(verdict.as_str_name(), "APPROVAL_VERDICT_").replace('_', " ");
    let source = table::visible(&approval.source);
    let title = table::visible(approvals::title(approval));
    let dim = table::DIM;
    format!("{style}{word}{style:#} by {source}: {title}  {dim}{}{dim:#}", approval.id)
}
