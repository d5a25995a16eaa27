//! `runhub tasks RUN`: lists a run's tasks.

use clap::Args;
use comfy_table::Cell;
use runhub_api::v1;
use runhub_api::v1::TaskStatus;
use runhub_client::Client;

use super::{Failure, ServerArgs, json, pages, table};

#[derive(Args)]
pub struct TasksArgs {
    /// The run's id
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: TasksArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let tasks = all_tasks(&client, &args.run, &[]).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        return json::lines(&mut out, "Task", &tasks);
    }
    let mut rows = new_table();
    for task in &tasks {
        rows.add_row(row(task));
    }
    table::print(&mut out, &mut rows, "The run has no tasks.")?;
    Ok(())
}

/// Returns the tasks of a run in one of these statuses, or all its tasks if `statuses` is empty.
pub async fn all_tasks(client: &Client, run_id: &str, statuses: &[TaskStatus]) -> Result<Vec<v1::Task>, Failure> {
    let request = v1::ListTasksRequest {
        run_id: run_id.to_owned(),
        statuses: statuses.iter().map(|status| (*status).into()).collect(),
        page_size: 1_000,
        ..v1::ListTasksRequest::default()
    };
    pages::all(async |page_token| {
        let page = client.list_tasks(v1::ListTasksRequest { page_token, ..request.clone() }).await?;
        Ok((page.tasks, page.next_page_token))
    })
    .await
}

/// Returns an empty table for rows of `row`.
pub fn new_table() -> comfy_table::Table {
    table::new(&["#", "TASK", "STATUS", "PRIO", "TRIES", "AGENT", "TITLE"])
}

/// Returns a task's row.
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

/// Returns an empty table for rows of `held_row`.
pub fn new_held_table() -> comfy_table::Table {
    table::new(&["#", "TASK", "TRIES", "AGENT", "LEASE ENDS", "TITLE"])
}

/// Returns the row of a task that an agent holds.
pub fn held_row(task: &v1::Task) -> [Cell; 6] {
    [
        table::number(task.ordinal),
        Cell::new(&task.id),
        table::number(task.attempt_count),
        table::short_or_dash(task.agent_id.as_deref().unwrap_or_default()),
        Cell::new(table::until(task.lease_expire_time.as_ref())),
        table::short(&task.title),
    ]
}
