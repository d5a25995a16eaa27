//! `runhub tasks RUN`: its plan.

use std::io::Write;

use clap::Args;
use comfy_table::Cell;
use runhub_api::v1;
use runhub_client::Client;

use super::{Failure, ServerArgs, json, table};

#[derive(Args)]
pub struct TasksArgs {
    /// The run's id
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: TasksArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let tasks = all_tasks(&client, &args.run).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        for task in &tasks {
            writeln!(out, "{}", json::line("Task", task)?)?;
        }
        return Ok(());
    }
    let mut rows = new_table();
    for task in &tasks {
        rows.add_row(row(task));
    }
    table::print(&mut out, &mut rows, "The run has no tasks.")?;
    Ok(())
}

async fn all_tasks(client: &Client, run_id: &str) -> Result<Vec<v1::Task>, Failure> {
    let mut tasks = Vec::new();
    let mut page_token = String::new();
    loop {
        let run_id = run_id.to_owned();
        let page = v1::ListTasksRequest { run_id, page_size: 1_000, page_token, ..v1::ListTasksRequest::default() };
        let page = client.list_tasks(page).await?;
        tasks.extend(page.tasks);
        if page.next_page_token.is_empty() {
            return Ok(tasks);
        }
        page_token = page.next_page_token;
    }
}

/// A table for `row`.
pub fn new_table() -> comfy_table::Table {
    table::new(&["#", "TASK", "STATUS", "PRIO", "TRIES", "AGENT", "TITLE"])
}

/// A task in a table.
pub fn row(task: &v1::Task) -> [Cell; 7] {
    [
        table::number(task.ordinal),
        Cell::new(&task.id),
        table::task_status(task.status()),
        table::number(task.priority),
        table::number(task.attempt_count),
        Cell::new(task.agent_id.as_deref().unwrap_or("-")),
        table::short(&task.title),
    ]
}
