//! This module implements `runhub tasks`, which lists the tasks of a run.

use clap::Args;
use runhub_api::v1;
use runhub_api::v1::TaskStatus;
use runhub_client::Client;

use super::out::{Cell, Out, Table};
use super::{Failure, ServerArgs, json, pages, table};

#[derive(Args)]
pub struct TasksArgs {
    /// The id of the run whose tasks the command lists.
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,

    /// Print each task as one JSON object on its own line.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: TasksArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let tasks = fetch_tasks(&client, &args.run, &[]).await?;
    if args.json {
        return json::print_each("Task", &tasks);
    }
    let mut rows = new_table();
    for task in &tasks {
        rows.add_row(task_row(task));
    }
    Out::stdout().print_table(rows, "The run has no tasks.")?;
    Ok(())
}

/// Returns the tasks of a run whose status is in `statuses`, or all tasks of the run if `statuses` is empty. Fails if
/// a call to the server fails.
pub async fn fetch_tasks(client: &Client, run_id: &str, statuses: &[TaskStatus]) -> Result<Vec<v1::Task>, Failure> {
    let request = v1::ListTasksRequest {
        run_id: run_id.to_owned(),
        statuses: statuses.iter().map(|status| (*status).into()).collect(),
        page_size: 1_000,
        ..v1::ListTasksRequest::default()
    };
    pages::fetch_all(async |page_token| {
        let page = client.list_tasks(v1::ListTasksRequest { page_token, ..request.clone() }).await?;
        Ok((page.tasks, page.next_page_token))
    })
    .await
}

/// Returns an empty table whose columns match the cells of `task_row`.
pub fn new_table() -> Table {
    Table::new(&["#", "TASK", "STATUS", "PRIO", "TRIES", "AGENT", "TITLE"])
}

/// Returns the table cells that describe a task.
pub fn task_row(task: &v1::Task) -> [Cell; 7] {
    [
        table::number_cell(task.ordinal),
        Cell::new(&task.id),
        table::task_status_cell(task.status()),
        table::number_cell(task.priority),
        table::number_cell(task.attempt_count),
        Cell::new(task.agent_id.as_deref().unwrap_or("-")),
        table::short_cell(&task.title),
    ]
}

/// Returns an empty table whose columns match the cells of `leased_task_row`.
pub fn new_leased_task_table() -> Table {
    Table::new(&["#", "TASK", "TRIES", "AGENT", "LEASE ENDS", "TITLE"])
}

/// Returns the table cells that describe a leased task.
pub fn leased_task_row(task: &v1::Task) -> [Cell; 6] {
    [
        table::number_cell(task.ordinal),
        Cell::new(&task.id),
        table::number_cell(task.attempt_count),
        table::short_or_dash_cell(task.agent_id.as_deref().unwrap_or_default()),
        Cell::new(table::format_end_time(task.lease_expire_time.as_ref())),
        table::short_cell(&task.title),
    ]
}
