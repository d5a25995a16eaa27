//! `runhub runs`: what runs there are.

use std::io::Write;

use clap::Args;
use runhub_api::v1;
use runhub_client::Client;

use super::{Failure, ServerArgs, json, table};

#[derive(Args)]
pub struct RunsArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: RunsArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let runs = all_runs(&client).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        for run in &runs {
            writeln!(out, "{}", json::line("Run", run)?)?;
        }
        return Ok(());
    }
    let mut rows = table::new(&["RUN", "STATUS", "CREATED", "GOAL"]);
    for run in &runs {
        let created = table::time(run.create_time.as_ref());
        rows.add_row([
            run.id.as_str().into(),
            table::run_status(run.status()),
            created.into(),
            table::short(&run.goal),
        ]);
    }
    table::print(&mut out, &mut rows, "There are no runs yet.")?;
    Ok(())
}

async fn all_runs(client: &Client) -> Result<Vec<v1::Run>, Failure> {
    let mut runs = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = v1::ListRunsRequest { page_size: 1_000, page_token, ..v1::ListRunsRequest::default() };
        let page = client.list_runs(page).await?;
        runs.extend(page.runs);
        if page.next_page_token.is_empty() {
            return Ok(runs);
        }
        page_token = page.next_page_token;
    }
}
