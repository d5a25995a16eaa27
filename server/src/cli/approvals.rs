//! `runhub approvals`: what waits for a decision.

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

What is asked in full, with payload and digest: --json")]
pub struct ApprovalsArgs {
    /// Only those of this run
    #[arg(value_name = "RUN")]
    run: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Also those that are decided, have expired or were cancelled
    #[arg(long)]
    all: bool,

    /// Print one JSON object a line
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

async fn all_approvals(client: &Client, run: Option<&str>, decided_too: bool) -> Result<Vec<v1::Approval>, Failure> {
    let request = v1::ListApprovalsRequest {
        run_id: run.unwrap_or_default().to_owned(),
        verdicts: if decided_too { vec![] } else { vec![ApprovalVerdict::Pending.into()] },
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

/// What is asked; of a recorded one, which nobody asked for, why it was decided so.
pub fn question(approval: &v1::Approval) -> &str {
    if approval.title.is_empty() { &approval.rationale } else { &approval.title }
}

/// Which columns a table of approvals has.
pub struct Columns {
    pub run: RunShown,
    pub verdict: bool,
}

/// Where a table of approvals names their runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RunShown {
    /// They are all of one.
    Nowhere,
    /// Under the approval's id: two ids beside each other leave a terminal no room for the question.
    Below,
    /// In a column, so that one approval stays one line, for grep and awk.
    Beside,
}

impl RunShown {
    fn for_list(is_of_one_run: bool) -> Self {
        match (is_of_one_run, stdout().is_terminal()) {
            (true, _) => Self::Nowhere,
            (false, true) => Self::Below,
            (false, false) => Self::Beside,
        }
    }
}

impl Columns {
    pub fn new_table(&self) -> comfy_table::Table {
        let mut headings = vec!["APPROVAL"];
        headings.extend((self.run == RunShown::Beside).then_some("RUN"));
        headings.extend(self.verdict.then_some("VERDICT"));
        headings.extend(["EXPIRES", "ASKED BY", "TITLE"]);
        table::new(&headings)
    }

    pub fn row(&self, approval: &v1::Approval) -> Vec<Cell> {
        let mut cells = match self.run {
            RunShown::Nowhere => vec![Cell::new(&approval.id)],
            RunShown::Below => vec![Cell::new(format!("{}\nrun {}", approval.id, approval.run_id))],
            RunShown::Beside => vec![Cell::new(&approval.id), Cell::new(&approval.run_id)],
        };
        cells.extend(self.verdict.then(|| table::verdict(approval.verdict())));
        cells.push(Cell::new(expiry(approval)));
        cells.push(table::short_or_dash(&approval.requested_by));
        cells.push(table::short(question(approval)));
        cells
    }
}

/// Until when it can be decided, and what happens then if that is more than its end.
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
