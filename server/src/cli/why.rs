//! This module implements `runhub why`, which explains why a task can't be claimed.

use std::io;

use anstyle::{AnsiColor, Style};
use clap::Args;
use runhub_api::v1;

use super::out::printable::first_line;
use super::out::{DIM, Line, Out};
use super::{Failure, ServerArgs, json, table};

#[derive(Args)]
pub struct WhyArgs {
    /// The id of the task to explain.
    #[arg(value_name = "TASK")]
    task: String,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the explanation as one JSON object.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: WhyArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let answer = client.explain_task(v1::ExplainTaskRequest { task_id: args.task }).await?;
    if args.json {
        return json::print("ExplainTaskResponse", &answer);
    }
    Ok(print(&answer)?)
}

fn print(answer: &v1::ExplainTaskResponse) -> io::Result<()> {
    let (color, verdict) = match (answer.claimable, answer.reasons.is_empty()) {
        (true, true) => (AnsiColor::Green, "claimable now"),
        // A claimable task can still have reasons of the kind CAPABILITY, because only agents that have the required
        // capabilities can claim the task.
        (true, false) => (AnsiColor::Green, "claimable now, by an agent with the right capabilities:"),
        (false, _) => (AnsiColor::Red, "can't be claimed now:"),
    };
    let style = Style::new().bold().fg_color(Some(color.into()));
    let mut out = Out::stdout();
    out.print(Line::new().styled(style, verdict))?;
    answer.reasons.iter().try_for_each(|reason| out.print(format_reason(reason)))
}

/// Returns one line with one reason why a task can't be claimed.
fn format_reason(reason: &v1::Obstacle) -> Line {
    let kind = table::lowercase_name(reason.kind().as_str_name(), "OBSTACLE_KIND_");
    let mut particulars = String::new();
    if let Some(task_id) = &reason.task_id {
        particulars.push_str(&format!("  {task_id}"));
    }
    if let (Some(own), Some(other)) = (&reason.path, &reason.other_path) {
        particulars.push_str(&format!("  {} ↔ {}", first_line(own), first_line(other)));
    }
    if reason.time.is_some() {
        particulars.push_str(&format!("  until {}", table::format_end_time(reason.time.as_ref())));
    }
    let line = Line::new().text(format_args!("  {kind:<10}  {}", first_line(&reason.detail)));
    line.styled(DIM, particulars)
}
