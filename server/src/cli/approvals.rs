//! `runhub approvals`: lists the approvals that need a decision.

use std::io::{IsTerminal, Write, stdout};

use clap::Args;
use comfy_table::Cell;
use runhub_api::v1;
use runhub_api::v1::{ApprovalVerdict, ExpiryPolicy};
use runhub_client::Client;

use super::{Failure, ServerArgs, json, pages, table};

#[derive(Args)]
#[command(after_help = "\
Decide with:
  runhub approve APPROVAL
  runhub reject APPROVAL --because TEXT

To see each approval in full, with payload and digest, use --json")]
pub struct ApprovalsArgs {
    /// List only the approvals of this run
    #[arg(value_name = "RUN")]
    run: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Also list approvals that are decided, expired or cancelled
    #[arg(long)]
    all: bool,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: ApprovalsArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let approvals = all_approvals(&client, args.run.as_deref(), args.all).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        return json::lines(&mut out, "Approval", &approvals);
    }
    let columns = Columns { run: RunShown::for_list(args.run.is_some()), verdict: args.all };
    let mut rows = columns.new_table();
    for approval in &approvals {
        rows.add_row(columns.row(approval));
    }
    let if_empty = if args.all { "There are no approvals yet." } else { "Nothing waits for a decision." };
    table::print(&mut out, &mut rows, if_empty)?;
    if stdout().is_terminal() && approvals.iter().any(is_pending) {
        writeln!(out, "\nDecide: runhub approve APPROVAL, or runhub reject APPROVAL --because TEXT")?;
    }
    Ok(())
}

async fn all_approvals(client: &Client, run: Option<&str>, also_decided: bool) -> Result<Vec<v1::Approval>, Failure> {
    let request = v1::ListApprovalsRequest {
        run_id: run.unwrap_or_default().to_owned(),
        verdicts: if also_decided { vec![] } else { vec![ApprovalVerdict::Pending.into()] },
        page_size: 1_000,
        ..v1::ListApprovalsRequest::default()
    };
    pages::all(async |page_token| {
        let page = client.list_approvals(v1::ListApprovalsRequest { page_token, ..request.clone() }).await?;
        Ok((page.approvals, page.next_page_token))
    })
    .await
}

pub fn is_pending(approval: &v1::Approval) -> bool {
    approval.verdict() == ApprovalVerdict::Pending
}

/// Returns the title, or the rationale of an approval that was recorded without a request and so has no title.
pub fn title(approval: &v1::Approval) -> &str {
    if approval.title.is_empty() { &approval.rationale } else { &approval.title }
}

/// The optional columns of a table of approvals.
pub struct Columns {
    pub run: RunShown,
    pub verdict: bool,
}

/// The place in which a table of approvals shows their runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RunShown {
    /// Nowhere, because all approvals belong to one run.
    Nowhere,
    /// Below the approval's id, because two ids side by side leave a terminal no space for the title.
    Below,
    /// In a column, so that each approval stays on one line, for grep and awk.
    Column,
}

impl RunShown {
    fn for_list(is_of_one_run: bool) -> Self {
        match (is_of_one_run, stdout().is_terminal()) {
            (true, _) => Self::Nowhere,
            (false, true) => Self::Below,
            (false, false) => Self::Column,
        }
    }
}

impl Columns {
    pub fn new_table(&self) -> comfy_table::Table {
        let mut headings = vec!["APPROVAL"];
        headings.extend((self.run == RunShown::Column).then_some("RUN"));
        headings.extend(self.verdict.then_some("VERDICT"));
        headings.extend(["EXPIRES", "ASKED BY", "TITLE"]);
        table::new(&headings)
    }

    pub fn row(&self, approval: &v1::Approval) -> Vec<Cell> {
        let mut cells = match self.run {
            RunShown::Nowhere => vec![Cell::new(&approval.id)],
            RunShown::Below => vec![Cell::new(format!("{}\nrun {}", approval.id, approval.run_id))],
            RunShown::Column => vec![Cell::new(&approval.id), Cell::new(&approval.run_id)],
        };
        cells.extend(self.verdict.then(|| table::verdict(approval.verdict())));
        cells.push(Cell::new(expiry(approval)));
        cells.push(table::short_or_dash(&approval.requested_by));
        cells.push(table::short(title(approval)));
        cells
    }
}

/// Returns the time at which a pending approval expires, and what happens then if it is more than a rejection.
fn expiry(approval: &v1::Approval) -> String {
    let Some(time) = approval.expire_time.as_ref().filter(|_| is_pending(approval)) else {
        return if is_pending(approval) { "never" } else { "-" }.to_owned();
    };
    let then = match approval.on_expiry() {
        ExpiryPolicy::Approve => ", then approved",
        ExpiryPolicy::PauseRun => ", then run paused",
        ExpiryPolicy::Reject | ExpiryPolicy::KeepPending | ExpiryPolicy::Unspecified => "",
    };
    format!("{}{then}", table::until(Some(time)))
}
