//! This module implements `runhub approvals`, which lists the approvals that need a decision.

use clap::Args;
use runhub_api::v1;
use runhub_api::v1::{ApprovalVerdict, ExpiryPolicy};
use runhub_client::Client;

use super::out::{self, Cell, Out, Table};
use super::{Failure, ServerArgs, json, pages, table};

#[derive(Args)]
#[command(after_help = "\
Decide with:
  runhub approve APPROVAL
  runhub reject APPROVAL --because TEXT

To see each approval in full, with payload and digest, use --json")]
pub struct ApprovalsArgs {
    /// The id of the run whose approvals the command lists. Default: all runs.
    #[arg(value_name = "RUN")]
    run: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    /// Also list approvals that are decided, expired or cancelled.
    #[arg(long)]
    all: bool,

    /// Print each approval as one JSON object on its own line.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: ApprovalsArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let approvals = fetch_approvals(&client, args.run.as_deref(), args.all).await?;
    if args.json {
        return json::print_each("Approval", &approvals);
    }
    let columns = Columns { run: RunPlacement::choose(args.run.is_some()), verdict: args.all };
    let mut rows = columns.new_table();
    for approval in &approvals {
        rows.add_row(columns.approval_row(approval));
    }
    let if_empty = if args.all { "There are no approvals yet." } else { "Nothing waits for a decision." };
    let mut out = Out::stdout();
    out.print_table(rows, if_empty)?;
    if out::stdout_is_terminal() && approvals.iter().any(is_pending) {
        out.print_text("")?;
        out.print_text("Decide: runhub approve APPROVAL, or runhub reject APPROVAL --because TEXT")?;
    }
    Ok(())
}

async fn fetch_approvals(client: &Client, run: Option<&str>, also_decided: bool) -> Result<Vec<v1::Approval>, Failure> {
    let request = v1::ListApprovalsRequest {
        run_id: run.unwrap_or_default().to_owned(),
        verdicts: if also_decided { vec![] } else { vec![ApprovalVerdict::Pending.into()] },
        page_size: 1_000,
        ..v1::ListApprovalsRequest::default()
    };
    pages::fetch_all(async |page_token| {
        let page = client.list_approvals(v1::ListApprovalsRequest { page_token, ..request.clone() }).await?;
        Ok((page.approvals, page.next_page_token))
    })
    .await
}

pub fn is_pending(approval: &v1::Approval) -> bool {
    approval.verdict() == ApprovalVerdict::Pending
}

/// Returns the title of an approval. If an approval was recorded without a request and has no title, the function
/// returns the rationale of the approval.
pub fn title(approval: &v1::Approval) -> &str {
    if approval.title.is_empty() { &approval.rationale } else { &approval.title }
}

/// Selects the optional columns of a table of approvals.
pub struct Columns {
    pub run: RunPlacement,
    pub verdict: bool,
}

/// Selects the place where a table of approvals shows the run of each approval.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RunPlacement {
    /// The table shows no run, because all approvals belong to the same run.
    Nowhere,
    /// The run's id is below the approval's id. Two ids side by side would leave no space for the title on a
    /// terminal.
    Below,
    /// The run's id is in its own column, so that each approval stays on one line for tools such as grep and awk.
    Column,
}

impl RunPlacement {
    fn choose(is_of_one_run: bool) -> Self {
        match (is_of_one_run, out::stdout_is_terminal()) {
            (true, _) => Self::Nowhere,
            (false, true) => Self::Below,
            (false, false) => Self::Column,
        }
    }
}

impl Columns {
    pub fn new_table(&self) -> Table {
        let mut headings = vec!["APPROVAL"];
        headings.extend((self.run == RunPlacement::Column).then_some("RUN"));
        headings.extend(self.verdict.then_some("VERDICT"));
        headings.extend(["EXPIRES", "ASKED BY", "TITLE"]);
        Table::new(&headings)
    }

    pub fn approval_row(&self, approval: &v1::Approval) -> Vec<Cell> {
        let mut cells = match self.run {
            RunPlacement::Nowhere => vec![Cell::new(&approval.id)],
            RunPlacement::Below => vec![Cell::lines(&[&approval.id, &format!("run {}", approval.run_id)])],
            RunPlacement::Column => vec![Cell::new(&approval.id), Cell::new(&approval.run_id)],
        };
        cells.extend(self.verdict.then(|| table::verdict_cell(approval.verdict())));
        cells.push(Cell::new(format_expiry(approval)));
        cells.push(table::short_or_dash_cell(&approval.requested_by));
        cells.push(table::short_cell(title(approval)));
        cells
    }
}

/// Returns the expiry time of a pending approval as text. If the expiry approves the approval or pauses the run, the
/// text names that effect. Returns `never` if the approval has no expiry time, and `-` if the approval is not pending.
fn format_expiry(approval: &v1::Approval) -> String {
    let Some(time) = approval.expire_time.as_ref().filter(|_| is_pending(approval)) else {
        return if is_pending(approval) { "never" } else { "-" }.to_owned();
    };
    let then = match approval.on_expiry() {
        ExpiryPolicy::Approve => ", then approved",
        ExpiryPolicy::PauseRun => ", then run paused",
        ExpiryPolicy::Reject | ExpiryPolicy::KeepPending | ExpiryPolicy::Unspecified => "",
    };
    format!("{}{then}", table::format_end_time(Some(time)))
}
