//! `runhub show RUN`: shows a run's snapshot.

use std::io::{self, Write};

use clap::Args;
use comfy_table::Cell;
use runhub_api::v1;
use runhub_client::Reason;

use super::approvals::{Columns, RunShown};
use super::{Failure, ServerArgs, approvals, json, table, tasks, watch};

#[derive(Args)]
pub struct ShowArgs {
    /// The run's id
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,

    /// The maximum number of tasks to show of each status. 0: all
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i32).range(0..))]
    tasks: i32,

    /// Print the whole snapshot as one JSON object, with all tasks
    #[arg(long)]
    json: bool,
}

/// The number of events, attempts and tasks of each status to show if the snapshot is too large.
const REDUCED_LIMIT: i32 = 10;

const IN_PROGRESS: &str = "In progress";

pub async fn run(args: ShowArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    // Without limits, so that the headings can show the number of all tasks.
    let whole = v1::GetRunSnapshotRequest { run_id: args.run, ..v1::GetRunSnapshotRequest::default() };
    let snapshot = match client.get_run_snapshot(whole.clone()).await {
        Err(error) if error.reason() == Some(&Reason::SnapshotTooLarge) && !args.json => {
            writeln!(
                anstream::stderr(),
                "The run is too large to show completely. This is the newest {REDUCED_LIMIT} of each kind."
            )?;
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
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", json::line("RunSnapshot", &snapshot)?)?;
        return Ok(());
    }
    let limit = if args.tasks == 0 { usize::MAX } else { usize::try_from(args.tasks).unwrap_or(0) };
    print(&mut out, &snapshot, limit)?;
    Ok(())
}

fn print(out: &mut impl Write, snapshot: &v1::RunSnapshot, limit: usize) -> io::Result<()> {
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
        heading(out, "Newest events")?;
        for event in snapshot.recent_events.iter().rev().take(10).rev() {
            writeln!(out, "{}", watch::line(event))?;
        }
    }
    Ok(())
}

fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    let bold = table::BOLD;
    writeln!(out, "\n{bold}{text}{bold:#}")
}

fn print_run(out: &mut impl Write, run: &v1::Run) -> io::Result<()> {
    let bold = table::BOLD;
    writeln!(out, "{bold}Run {}{bold:#}", run.id)?;
    let mut facts = vec![
        ("goal", table::shorten(&run.goal)),
        ("repo", table::shorten(&run.repo_path)),
        ("status", table::word(run.status().as_str_name(), "RUN_STATUS_")),
    ];
    if !run.status_reason.is_empty() {
        facts.push(("because", table::shorten(&run.status_reason)));
    }
    facts.extend(run.summary.as_deref().map(|summary| ("summary", table::shorten(summary))));
    facts.extend(run.current_task_id.clone().map(|id| ("at task", id)));
    facts.push(("cycles", format!("{} ({} replans, plan {})", run.cycle_count, run.replan_count, run.plan_version)));
    facts.extend(run.labels.iter().map(|(key, value)| ("label", table::shorten(&format!("{key}={value}")))));
    facts.push(("created", table::time(run.create_time.as_ref())));
    facts.push(("changed", table::time(run.update_time.as_ref())));
    for (name, value) in facts {
        writeln!(out, "  {name:<8} {value}")?;
    }
    Ok(())
}

fn print_tasks(out: &mut impl Write, snapshot: &v1::RunSnapshot, limit: usize) -> io::Result<()> {
    let lists = [
        (IN_PROGRESS, &snapshot.in_progress_tasks),
        ("Pending", &snapshot.pending_tasks),
        ("Blocked and abandoned", &snapshot.blocked_tasks),
        ("Completed", &snapshot.completed_tasks),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        let shown = list.len().min(limit);
        // The next tasks are first among the pending ones; the most recent are last in the other lists.
        let (which, part) = match name {
            "Pending" => ("first", &list[..shown]),
            _ => ("newest", &list[list.len() - shown..]),
        };
        let note = if shown < list.len() { format!(", the {which} {shown}") } else { String::new() };
        heading(out, &format!("{name}: {}{note}", list.len()))?;
        table::print(out, &mut task_rows(name, part), "")?;
    }
    Ok(())
}

/// Returns the table of a list of tasks. Tasks in progress show when their lease ends instead of their status.
fn task_rows(list: &str, tasks: &[v1::Task]) -> comfy_table::Table {
    let mut rows = if list == IN_PROGRESS { tasks::new_held_table() } else { tasks::new_table() };
    for task in tasks {
        if list == IN_PROGRESS {
            rows.add_row(tasks::held_row(task));
        } else {
            rows.add_row(tasks::row(task));
        }
    }
    rows
}

fn print_attempts(out: &mut impl Write, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = table::new(&["TASK", "TRY", "STATUS", "AGENT", "SUMMARY"]);
    for attempt in &snapshot.recent_attempts {
        rows.add_row([
            Cell::new(&attempt.task_id),
            table::number(attempt.attempt_number),
            table::attempt_status(attempt.status()),
            Cell::new(attempt.agent_id.as_deref().unwrap_or("-")),
            table::short(&attempt.summary),
        ]);
    }
    section(out, "Newest attempts", rows)
}

fn print_agents(out: &mut impl Write, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = table::new(&["ROLE", "TURNS", "ROTATIONS", "SAVED", "SESSION"]);
    for agent in &snapshot.agents {
        rows.add_row([
            Cell::new(&agent.role),
            table::number(agent.turns),
            table::number(agent.rotation_count),
            Cell::new(table::time(agent.update_time.as_ref())),
            table::short(agent.session_id.as_deref().unwrap_or("-")),
        ]);
    }
    section(out, "Agents", rows)
}

/// Prints pending approvals before the tasks, because agents wait for the decisions.
fn print_pending_approvals(out: &mut impl Write, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let columns = Columns { run: RunShown::Nowhere, verdict: false };
    let mut rows = columns.new_table();
    for approval in snapshot.approvals.iter().filter(|approval| approvals::is_pending(approval)) {
        rows.add_row(columns.row(approval));
    }
    section(out, "Waiting for a decision", rows)
}

fn print_decided_approvals(out: &mut impl Write, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = table::new(&["APPROVAL", "VERDICT", "BY", "TITLE", "BECAUSE"]);
    for approval in snapshot.approvals.iter().filter(|approval| !approvals::is_pending(approval)) {
        rows.add_row([
            Cell::new(&approval.id),
            table::verdict(approval.verdict()),
            table::short_or_dash(&approval.source),
            table::short_or_dash(&approval.title),
            table::short(&approval.rationale),
        ]);
    }
    section(out, "Approvals", rows)
}

fn print_artifacts(out: &mut impl Write, snapshot: &v1::RunSnapshot) -> io::Result<()> {
    let mut rows = table::new(&["ARTIFACT", "KIND", "ROLE", "PATH"]);
    for artifact in &snapshot.artifacts {
        rows.add_row([
            Cell::new(&artifact.id),
            Cell::new(&artifact.kind),
            Cell::new(artifact.role.as_deref().unwrap_or("-")),
            table::short(&artifact.path),
        ]);
    }
    section(out, "Artifacts", rows)
}

fn section(out: &mut impl Write, name: &str, mut rows: comfy_table::Table) -> io::Result<()> {
    if rows.row_iter().next().is_none() {
        return Ok(());
    }
    heading(out, name)?;
    table::print(out, &mut rows, "")
}
