//! This module implements `runhub show`, which prints a snapshot of a run.

use std::io;

use clap::Args;
use runhub_api::v1;
use runhub_client::Reason;

use super::approvals::{Columns, RunPlacement};
use super::out::{BOLD, Cell, Line, Out, Table};
use super::{Failure, ServerArgs, approvals, json, table, tasks, watch};

#[derive(Args)]
pub struct ShowArgs {
    /// The id of the run to show.
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The maximum number of tasks to show for each status. 0 shows all tasks.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i32).range(0..))]
    tasks: i32,

    /// Print the whole snapshot as one JSON object, with all tasks.
    #[arg(long)]
    json: bool,
}

/// If the whole snapshot is larger than the server allows, the command shows at most this number of events, of
/// attempts, and of tasks per status.
const REDUCED_LIMIT: i32 = 10;

const IN_PROGRESS: &str = "In progress";

pub async fn run(args: ShowArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    // The first GetRunSnapshot request sets no limits, so that the headings can show the total number of tasks.
    let whole = v1::GetRunSnapshotRequest { run_id: args.run, ..v1::GetRunSnapshotRequest::default() };
    let snapshot = match client.get_run_snapshot(whole.clone()).await {
        Err(error) if error.reason() == Some(&Reason::SnapshotTooLarge) && !args.json => {
            Out::stderr().print_text(format_args!(
                "The run is too large to show completely. The output has only the newest {REDUCED_LIMIT} of each kind."
            ))?;
            let part = v1::GetRunSnapshotRequest {
                event_limit: REDUCED_LIMIT,
                attempt_limit: REDUCED_LIMIT,
                task_limit: REDUCED_LIMIT,
                ..whole
            };
            client.get_run_snapshot(part).await?
        }
        other => other?,
    };
    let snapshot = snapshot.snapshot.unwrap_or_default();
    if args.json {
        return json::print("RunSnapshot", &snapshot);
    }
    let limit = if args.tasks == 0 { usize::MAX } else { usize::try_from(args.tasks).unwrap_or(0) };
    Ok(print(&mut Out::stdout(), &snapshot, limit)?)
}

fn print(out: &mut Out, snapshot: &v1::RunSnapshot, limit: usize) -> io::Result<()> {
    if let Some(run) = &snapshot.run {
        print_run(out, run)?;
    }
    print_pending_approvals(out, snapshot)?;
    print_tasks(out, snapshot, limit)?;
    print_attempts(out, snapshot)?;
    print_agents(out, snapshot)?;
    print_decided_approvals(out, snapshot)?;
    print_artifacts(out, snapshot)?;
    if !snapshot.recent_events.is_empty() {
        print_heading(out, "Newest events")?;
        for event in snapshot.recent_events.iter().rev().take(10).rev() {
            out.print(watch::format_event(event))?;
        }
    }
    Ok(())
}

fn print_heading(out: &mut Out, text: &str) -> io::Result<()> {
    out.print(Line::new())?;
    out.print(Line::new().styled(BOLD, text))
}

fn print_run(out: &mut Out, run: &v1::Run) -> io::Result<()> {
    out.print(Line::new().styled(BOLD, format_args!("Run {}", run.id)))?;
    let mut facts = vec![
        ("goal", table::shorten(&run.goal)),
        ("repo", table::shorten(&run.repo_path)),
        ("status", table::lowercase_name(run.status().as_str_name(), "RUN_STATUS_")),
    ];
    if !run.status_reason.is_empty() {
        facts.push(("because", table::shorten(&run.status_reason)));
    }
    facts.extend(run.summary.as_deref().map(|summary| ("summary", table::shorten(summary))));
    facts.extend(run.current_task_id.clone().map(|id| ("at task", id)));
    facts.push(("cycles", format!("{} ({} replans, plan {})", run.cycle_count, run.replan_count, run.plan_version)));
    facts.extend(run.labels.iter().map(|(key, value)| ("label", table::shorten(&format!("{key}={value}")))));
    facts.push(("created", table::format_time(run.create_time.as_ref())));
    facts.push(("changed", table::format_time(run.update_time.as_ref())));
    for (name, value) in facts {
        out.print_text(format_args!("  {name:<8} {value}"))?;
    }
    Ok(())
}

fn print_tasks(out: &mut Out, snapshot: &v1::RunSnapshot, limit: usize) -> io::Result<()> {
    let lists = [
        (IN_PROGRESS, &snapshot.in_progress_tasks),
        ("Pending", &snapshot.pending_tasks),
        ("Blocked and abandoned", &snapshot.blocked_tasks),
        ("Completed", &snapshot.completed_tasks),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        let shown = list.len().min(limit);
        // The next tasks to claim are first in the list of pending tasks. In every other list, the newest tasks are
        // last.
        let (which, part) = match name {
            "Pending" => ("first", &list[..shown]),
            _ => ("newest", &list[list.len() - shown..]),
        };
        let note = if shown < list.len() { format!(", the {which} {shown}") } else { String::new() };
        print_heading(out, &format!("{name}: {}{note}", list.len()))?;
        out.print_table(task_table(name, part), "")?;
    }
    Ok(())
}

/// Returns the table for a list of tasks. For tasks in progress, the table shows the time when the lease expires
/// instead of the status.
fn task_table(list: &str, tasks: &[v1::Task]) -> Table {
    let mut rows = if list == IN_PROGRESS { tasks::new_leased_task_table() } else { tasks::new_table() };
    for task in tasks {
        if list == IN_PROGRESS {
            rows.add_row(tasks::leased_task_row(task));
        } else {
            rows.add_row(tasks::task_row(task));
        }
    }
    rows
}

fn print_attempts(out: &mut Out, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = Table::new(&["TASK", "TRY", "STATUS", "AGENT", "SUMMARY"]);
    for attempt in &snapshot.recent_attempts {
        rows.add_row([
            Cell::new(&attempt.task_id),
            table::number_cell(attempt.attempt_number),
            table::attempt_status_cell(attempt.status()),
            Cell::new(attempt.agent_id.as_deref().unwrap_or("-")),
            table::short_cell(&attempt.summary),
        ]);
    }
    print_section(out, "Newest attempts", rows)
}

fn print_agents(out: &mut Out, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = Table::new(&["ROLE", "TURNS", "ROTATIONS", "SAVED", "SESSION"]);
    for agent in &snapshot.agents {
        rows.add_row([
            Cell::new(&agent.role),
            table::number_cell(agent.turns),
            table::number_cell(agent.rotation_count),
            Cell::new(table::format_time(agent.update_time.as_ref())),
            table::short_cell(agent.session_id.as_deref().unwrap_or("-")),
        ]);
    }
    print_section(out, "Agents", rows)
}

/// Prints the pending approvals, which come before the tasks in the output because agents wait for the decisions.
/// Fails if the output can't be written.
fn print_pending_approvals(out: &mut Out, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let columns = Columns { run: RunPlacement::Nowhere, verdict: false };
    let mut rows = columns.new_table();
    for approval in snapshot.approvals.iter().filter(|approval| approvals::is_pending(approval)) {
        rows.add_row(columns.approval_row(approval));
    }
    print_section(out, "Waiting for a decision", rows)
}

fn print_decided_approvals(out: &mut Out, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = Table::new(&["APPROVAL", "VERDICT", "BY", "TITLE", "BECAUSE"]);
    for approval in snapshot.approvals.iter().filter(|approval| !approvals::is_pending(approval)) {
        rows.add_row([
            Cell::new(&approval.id),
            table::verdict_cell(approval.verdict()),
            table::short_or_dash_cell(&approval.source),
            table::short_or_dash_cell(&approval.title),
            table::short_cell(&approval.rationale),
        ]);
    }
    print_section(out, "Approvals", rows)
}

fn print_artifacts(out: &mut Out, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = Table::new(&["ARTIFACT", "KIND", "ROLE", "PATH"]);
    for artifact in &snapshot.artifacts {
        rows.add_row([
            Cell::new(&artifact.id),
            Cell::new(&artifact.kind),
            Cell::new(artifact.role.as_deref().unwrap_or("-")),
            table::short_cell(&artifact.path),
        ]);
    }
    print_section(out, "Artifacts", rows)
}

fn print_section(out: &mut Out, name: &str, rows: Table) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    print_heading(out, name)?;
    out.print_table(rows, "")
}
