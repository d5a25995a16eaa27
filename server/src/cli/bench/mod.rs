//! `runhub bench`: how fast it is here, measured from outside over real sockets.
//!
//! What a figure is compared with is measured in the same run, in turns with it: the machine may be shared.

mod appends;
mod claims;
mod delays;
mod growth;
mod idle;
mod load;
mod overload;
mod own_server;
mod row;
mod sample;
mod stream;
mod wake;
mod watchers;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use runhub_api::{Json, v1};
use runhub_client::Client;
use serde::Serialize;
use tempfile::TempDir;

use self::appends::Appending;
use self::load::{Load, Until, Work, closed_loop};
use self::own_server::OwnServer;
use self::row::Row;
use super::{Failure, progress};

#[derive(Args)]
#[command(after_help = "\
VALUE is a rate, a time or a size; P50 and P99 are of one call, in milliseconds. CEILING is what it is compared with, \
measured in the same run: what follows the semicolon in the name. RATIO is VALUE of CEILING. TARGET is of the ratio, or \
of the value where there is nothing to compare it with.

A full run takes about four minutes and some hundred megabytes in the folder for temporary files.

Examples:
  runhub bench
  runhub bench appends claims --agents 16
  runhub bench growth --json | jq '.rows[] | select(.met == false)'")]
pub struct BenchArgs {
    /// What to measure: everything, unless some of it is named
    #[arg(value_enum, value_name = "WHAT")]
    groups: Vec<Group>,

    /// The server to measure; it will be busy, and have a few runs more. Without one, one is started on a temporary file.
    /// Growth, idle and overload are always measured on servers of their own
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// How many agents append and claim, each on its own connection
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    agents: u16,

    /// The payload of each event, as JSON, also of those that SQLite writes by itself
    #[arg(long, value_name = "JSON", default_value = PAYLOAD, hide_default_value = true)]
    payload: String,

    /// A small part of the work: to see that it runs, not how fast
    #[arg(long)]
    quick: bool,

    /// Print one JSON object: {"rows": [{"name", "value", "ceiling", "ratio", "target", "met"}]}
    #[arg(long)]
    json: bool,
}

/// Of five fields, as long as an agent's are.
const PAYLOAD: &str =
    r#"{"tool":"edit","path":"src/parser/lexer.rs","line":42,"ok":true,"note":"one token of lookahead is enough"}"#;

/// Rows that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// AppendEvents, one event a call
    Appends,
    /// AppendEvents to many runs, and with request_ids
    Variants,
    /// AppendEvents, a hundred a call
    Batches,
    /// Claiming and completing
    Claims,
    /// What one call, and one event on its way to a watcher, take
    Delays,
    /// A hundred live watchers
    Watchers,
    /// A thousand times as many events
    Growth,
    /// Claims that wait
    Wake,
    /// One watcher that never reads
    Slow,
    /// Memory, and how soon it is ready
    Idle,
    /// More callers than can be served
    Overload,
}

/// Where it is measured, and how much.
pub struct Bench {
    url: String,
    client: Client,
    /// On the same disk as the database of an own server.
    folder: TempDir,
    agents: usize,
    event: v1::EventDraft,
    /// Of that, as it is stored.
    payload: String,
    quick: bool,
    progress: ProgressBar,
}

impl Bench {
    /// Begins a row of so many steps.
    fn begin(&self, name: &'static str, steps: usize) {
        self.progress.set_length(steps as u64);
        self.progress.set_position(0);
        self.progress.set_message(name);
    }

    /// A number of things to do: a tenth of it when it is to be quick.
    fn times(&self, whole: usize) -> usize {
        if self.quick { whole / 10 } else { whole }
    }

    /// How often each of two things that are compared has its turn.
    fn turns(&self) -> usize {
        if self.quick { 1 } else { 4 }
    }

    /// How long a turn is.
    fn turn(&self) -> Until {
        Until::Time(Duration::from_millis(if self.quick { 100 } else { 1_500 }))
    }

    /// The same for another server.
    async fn at(&self, url: &str) -> Result<Self, Failure> {
        Ok(Self {
            url: url.to_owned(),
            client: Client::connect(url).await?.without_retry(),
            folder: tempfile::tempdir()?,
            event: self.event.clone(),
            payload: self.payload.clone(),
            progress: self.progress.clone(),
            ..*self
        })
    }

    /// What is compared with, and what is measured, one after the other, in turns: both see the same machine.
    async fn in_turns(
        &self,
        ceiling: &Arc<impl Work>,
        measured: &Arc<impl Work>,
        callers: usize,
    ) -> Result<(Load, Load), Failure> {
        let mut loads = (Load::default(), Load::default());
        for _ in 0..self.turns() {
            loads.0.extend(closed_loop(ceiling, self.turn(), callers).await?);
            self.progress.inc(1);
            loads.1.extend(closed_loop(measured, self.turn(), callers).await?);
            self.progress.inc(1);
        }
        Ok(loads)
    }

    /// A server that has just begun is slower.
    async fn warm_up(&self) -> Result<(), Failure> {
        let appending = Arc::new(Appending::new(self, self.agents).await?);
        closed_loop(&appending, self.turn(), self.agents).await.map(drop)
    }

    /// A run to measure in.
    async fn new_run(&self) -> Result<String, Failure> {
        let request =
            v1::CreateRunRequest { goal: "bench".to_owned(), repo_path: "bench".to_owned(), ..Default::default() };
        Ok(self.client.create_run(request).await?.run.unwrap_or_default().id)
    }

    async fn measure(&self, group: Group) -> Result<Vec<Row>, Failure> {
        match group {
            Group::Appends => appends::one_a_call(self).await,
            Group::Variants => appends::variants(self).await,
            Group::Batches => appends::batches(self).await,
            Group::Claims => claims::claim_and_complete(self).await,
            Group::Delays => delays::all(self).await,
            Group::Watchers => watchers::beside_a_writer(self).await,
            Group::Growth => growth::all(self).await,
            Group::Wake => wake::woken_by_a_completion(self).await,
            Group::Slow => watchers::beside_one_that_never_reads(self).await,
            Group::Idle => idle::all(self).await,
            Group::Overload => overload::all(self).await,
        }
    }
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
}

pub async fn run(args: BenchArgs) -> Result<(), Failure> {
    let payload = Json::parse(&args.payload).map_err(|error| Failure::usage(format!("--payload: {error}")))?;
    // Ended when this returns.
    let own_server = if args.server.is_none() { Some(OwnServer::start()?) } else { None };
    let url = args.server.or_else(|| own_server.as_ref().map(|server| server.url.clone())).unwrap_or_default();
    let event = v1::EventDraft {
        source: "agent".to_owned(),
        kind: "tool_used".to_owned(),
        message: "edited a file".to_owned(),
        payload: Some(payload),
        ..Default::default()
    };
    let (client, folder) = (Client::connect(&url).await?.without_retry(), tempfile::tempdir()?);
    let (agents, progress) = (usize::from(args.agents), progress::bar(0));
    let bench = Bench { url, client, folder, agents, event, payload: args.payload, quick: args.quick, progress };
    let groups = if args.groups.is_empty() { Group::value_variants() } else { &args.groups };
    bench.warm_up().await?;
    let mut rows = Vec::new();
    for group in groups {
        rows.extend(bench.measure(*group).await?);
    }
    bench.progress.finish_and_clear();
    let mut out = anstream::stdout().lock();
    if args.json {
        let report = serde_json::to_string(&Report { rows }).map_err(|error| Failure::failed(error.to_string()))?;
        writeln!(out, "{report}")?;
        return Ok(());
    }
    Ok(row::print(&mut out, &rows)?)
}
