//! This module implements `runhub runs`, which lists the runs.

use clap::Args;
use runhub_api::v1;
use runhub_client::Client;

use super::out::{Cell, Out, Table};
use super::{Failure, ServerArgs, json, pages, table};

#[derive(Args)]
pub struct RunsArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print each run as one JSON object on its own line.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: RunsArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let runs = fetch_runs(&client).await?;
    if args.json {
        return json::print_each("Run", &runs);
    }
    let mut rows = Table::new(&["RUN", "STATUS", "CREATED", "GOAL"]);
    for run in &runs {
        rows.add_row([
            Cell::new(&run.id),
            table::run_status_cell(run.status()),
            Cell::new(table::format_time(run.create_time.as_ref())),
            table::short_cell(&run.goal),
        ]);
    }
    Out::stdout().print_table(rows, "There are no runs yet.")?;
    Ok(())
}

async fn fetch_runs(client: &Client) -> Result<Vec<v1::Run>, Failure> {
    pages::fetch_all(async |page_token| {
        let request = v1::ListRunsRequest { page_size: 1_000, page_token, ..v1::ListRunsRequest::default() };
        let page = client.list_runs(request).await?;
        Ok((page.runs, page.next_page_token))
    })
    .await
}
