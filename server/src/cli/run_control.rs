//! This module implements `runhub pause`, `resume`, `cancel` and `delete`, which control a run.

use std::time::Duration;

use clap::Args;
use prost_types::Timestamp;
use prost_types::value::Kind;
use runhub_api::v1;
use runhub_api::v1::{RunStatus, TaskStatus};
use runhub_client::Client;

use super::out::{BOLD, Line, Out};
use super::{Failure, ServerArgs, json, table, tasks};

#[derive(Args)]
pub struct ControlArgs {
    /// The id of the run that the command changes.
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The reason for the command, which the server records in the log and in the run. Default: no reason.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    because: String,

    /// Print the changed run as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct CancelArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// The time in which agents can finish leased tasks, at most 24h. If the time is 0s, the run ends immediately.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_grace)]
    grace: prost_types::Duration,
}

#[derive(Args)]
pub struct DeleteArgs {
    /// The id of the run to delete. The run must have ended.
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,
}

fn parse_grace(text: &str) -> Result<prost_types::Duration, String> {
    let duration: Duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    prost_types::Duration::try_from(duration).map_err(|error| error.to_string())
}

pub async fn pause(args: ControlArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let request = v1::PauseRunRequest { run_id: args.run, reason: args.because, ..v1::PauseRunRequest::default() };
    let run = client.pause_run(request).await?.run.unwrap_or_default();
    print(&run, args.json, "")
}

pub async fn resume(args: ControlArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let request = v1::ResumeRunRequest { run_id: args.run, reason: args.because, ..v1::ResumeRunRequest::default() };
    let run = client.resume_run(request).await?.run.unwrap_or_default();
    print(&run, args.json, "")
}

pub async fn cancel(args: CancelArgs) -> Result<(), Failure> {
    let ControlArgs { run: run_id, server, because: reason, json } = args.control;
    let client = server.connect().await?;
    let request = v1::CancelRunRequest { run_id, reason, grace: Some(args.grace), ..v1::CancelRunRequest::default() };
    let run = client.cancel_run(request).await?.run.unwrap_or_default();
    // The server has already accepted the cancellation. If reading the leased tasks made the command fail, a script
    // would conclude that the cancellation has failed.
    let note = match run.status() {
        RunStatus::Cancelling if !json => leased_tasks_note(&client, &run.id).await.unwrap_or_default(),
        _ => String::new(),
    };
    print(&run, json, &note)
}

pub async fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let request = v1::DeleteRunRequest { run_id: args.run.clone(), ..v1::DeleteRunRequest::default() };
    client.delete_run(request).await?;
    Ok(Out::stdout().print_text(format_args!("Run {} is deleted, with its plan and its log", args.run))?)
}

fn print(run: &v1::Run, as_json: bool, note: &str) -> Result<(), Failure> {
    if as_json {
        return json::print("Run", run);
    }
    let status = table::lowercase_name(run.status().as_str_name(), "RUN_STATUS_");
    let line = Line::new().text(format_args!("Run {} is ", run.id)).styled(BOLD, status).text(note);
    Ok(Out::stdout().print(line)?)
}

/// Returns a note with the number of leased tasks in a run that is being cancelled, and with the end of the grace
/// period. If the run has no leased task, the note is empty. Fails if a call to the server fails.
async fn leased_tasks_note(client: &Client, run_id: &str) -> Result<String, Failure> {
    let leased = tasks::fetch_tasks(client, run_id, &[TaskStatus::InProgress]).await?.len();
    let until = match find_grace_end(client, run_id).await? {
        Some(time) => format!(", until {} at the latest", table::format_end_time(Some(&time))),
        None => String::new(),
    };
    Ok(match leased {
        0 => String::new(),
        1 => format!(": 1 task is still held{until}"),
        more => format!(": {more} tasks are still held{until}"),
    })
}

/// Returns the end of the grace period from the newest event `run_cancel_requested`, or None if the log contains no
/// `run_cancel_requested` event of the run. The end can't be computed from the `--grace` option, because a repeated
/// cancellation with a longer grace period does not change the end.
async fn find_grace_end(client: &Client, run_id: &str) -> Result<Option<Timestamp>, Failure> {
    let request = v1::ListEventsRequest {
        run_id: run_id.to_owned(),
        limit: 1,
        kinds: vec!["run_cancel_requested".to_owned()],
        sources: vec!["system".to_owned()],
        ..v1::ListEventsRequest::default()
    };
    let events = client.list_events(request).await?.events;
    let Some(Kind::StructValue(payload)) = events.into_iter().next().and_then(|event| event.payload?.kind) else {
        return Ok(None);
    };
    Ok(match payload.fields.get("graceEndTime").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(time)) => time.parse().ok(),
        _ => None,
    })
}
