//! This module implements `runhub watch`, which shows events live.

use anstyle::{AnsiColor, Style};
use clap::Args;
use runhub_api::v1;
use runhub_client::{Client, Interruption, Subscription, Update};

use super::out::{self, DIM, Line, Out};
use super::{Failure, ServerArgs, json, table};

#[derive(Args)]
pub struct WatchArgs {
    /// The id of the run to watch. The command shows the stored events of the run and then live events, until the run
    /// ends. Default: live events of all runs.
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Watch all runs. If RUN is not set, the command always watches all runs.
    #[arg(long, conflicts_with = "run")]
    all: bool,

    #[command(flatten)]
    server: ServerArgs,

    /// Start after this position. Position 0 is the beginning of the log.
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(0..))]
    since: Option<i64>,

    /// The log_id of the log in which the position of --since is valid, as `runhub show RUN --json` prints it. If the
    /// server has another log, for example after a restore, the command fails. Default: the server's log.
    #[arg(long, value_name = "LOG_ID", requires = "since")]
    log_id: Option<String>,

    /// Show only events of this kind. KIND* selects all kinds that start with KIND. The option can be repeated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,

    /// Continue with live events after the stored events. This is the default.
    #[arg(long, overrides_with = "no_follow")]
    follow: bool,

    /// Show the stored events and exit. If RUN is not set, the command starts at the beginning of the log.
    #[arg(long)]
    no_follow: bool,

    /// Print each event as one JSON object on its own line.
    #[arg(long)]
    json: bool,
}

impl WatchArgs {
    /// Returns the start of the subscription. If the command watches all runs live, the subscription starts at the
    /// end of the log, because the log of all runs can be large. Otherwise the subscription starts at the beginning
    /// of the log.
    fn subscribe_start(&self) -> v1::SubscribeStart {
        match self.run.is_none() && !self.no_follow {
            true => v1::SubscribeStart::FromNow,
            false => v1::SubscribeStart::FromBeginning,
        }
    }
}

pub async fn run(args: WatchArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    tokio::select! {
        result = show_events(subscribe(&client, &args), &args) => result,
        // Without this branch, `watch RUN | head -2` would not end before the next event.
        error = out::stdout_closed() => Err(error.into()),
    }
}

fn subscribe(client: &Client, args: &WatchArgs) -> Subscription {
    let request = v1::SubscribeEventsRequest {
        run_id: args.run.clone().unwrap_or_default(),
        after_position: args.since,
        log_id: args.log_id.clone(),
        start: args.subscribe_start().into(),
        kinds: args.kinds.clone(),
        ..v1::SubscribeEventsRequest::default()
    };
    client.subscribe(request).on_interruption(report_interruption)
}

/// Prints the events of a subscription until the subscription ends. Fails if the server refuses the subscription or the
/// standard output can't be written.
async fn show_events(mut subscription: Subscription, args: &WatchArgs) -> Result<(), Failure> {
    let mut out = Out::stdout();
    while let Some(update) = subscription.next().await {
        match update? {
            Update::Event(event) => match (args.json, &args.run) {
                (true, _) => json::print("Event", event.as_ref())?,
                (false, None) => out.print(format_event(&event).text(format_args!("  {}", event.run_id)))?,
                (false, Some(_)) => out.print(format_event(&event))?,
            },
            Update::CaughtUp(_) if args.no_follow => return Ok(()),
            Update::End(v1::EndReason::RunDeleted, _) => Out::stderr().print_text("The run was deleted.")?,
            _ => {}
        }
    }
    Ok(())
}

/// Tells the person on standard error why no events arrive. The standard output has only events.
fn report_interruption(interruption: Interruption<'_>) {
    let notice = match interruption {
        Interruption::Began(Some(error)) if error.reason().is_some() => {
            format!("no events arrive for now ({error}): trying again until the server accepts the subscription")
        }
        Interruption::Began(_) => "the connection to the server is lost: trying to connect again".to_owned(),
        Interruption::Ended => "connected to the server again".to_owned(),
    };
    // The notice is not part of the output, so the command continues if standard error is closed.
    let _ = Out::stderr().print_text(notice);
}

/// Returns an event as one line.
pub fn format_event(event: &v1::Event) -> Line {
    let time = table::format_short_time(event.create_time.as_ref());
    let line = Line::new()
        .styled(DIM, format_args!("{:>6}  {time}", event.position))
        .text("  ")
        .styled(kind_style(&event.kind), format_args!("{:<20}", event.kind))
        .text(format_args!("  {:<8}  {}", event.source, table::shorten(&event.message)));
    match &event.task_id {
        Some(id) => line.text("  ").styled(DIM, id),
        None => line,
    }
}

fn kind_style(kind: &str) -> Style {
    let color = match kind {
        "task_completed" | "approval_decided" | "approval_consumed" => AnsiColor::Green,
        "task_claimed" | "lease_resumed" | "run_resumed" => AnsiColor::Cyan,
        "task_blocked" | "task_failed" | "stale_write_rejected" => AnsiColor::Red,
        "approval_requested" => AnsiColor::Magenta,
        "task_abandoned" | "task_released" | "task_requeued" | "requeue_in_progress" | "lease_expired" => {
            AnsiColor::Yellow
        }
        "run_paused" | "run_cancel_requested" | "run_cancelled" | "run_deleted" => AnsiColor::Yellow,
        "approval_expired" | "approval_cancelled" => AnsiColor::Yellow,
        _ => return Style::new(),
    };
    Style::new().fg_color(Some(color.into()))
}
