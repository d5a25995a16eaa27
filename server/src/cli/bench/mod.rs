//! `runhub bench`: how fast it is here, measured from outside over real sockets.
//!
//! What a figure is compared with is measured in the same run: the machine may be shared.

mod claims;
mod own_server;
mod sample;
mod watchers;

use std::io::Write;

use clap::Args;
use comfy_table::{Cell, Color};
use indicatif::ProgressBar;
use runhub_client::Client;
use serde::Serialize;

use self::own_server::OwnServer;
use super::{Failure, progress, table};

#[derive(Args)]
pub struct BenchArgs {
    /// The server to measure; it will be busy, and have a few runs more. Without one, one is started on a temporary file
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// A tenth of the work: to see that it runs, not how fast
    #[arg(long)]
    quick: bool,

    /// Print one JSON object: {"rows": [{"name", "value", "ceiling", "ratio", "target", "met"}]}
    #[arg(long)]
    json: bool,
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    name: &'static str,
    unit: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
    /// What it is compared with, of the same run.
    ceiling: Option<f64>,
    ratio: Option<f64>,
    /// Of the ratio, or of the value if there is none: at most so much.
    target: f64,
    met: bool,
}

/// Where it is measured, and how much.
pub struct Bench {
    url: String,
    client: Client,
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
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
}

pub async fn run(args: BenchArgs) -> Result<(), Failure> {
    // Ended when this returns.
    let own_server = if args.server.is_none() { Some(OwnServer::start()?) } else { None };
    let url = args.server.or_else(|| own_server.as_ref().map(|server| server.url.clone())).unwrap_or_default();
    let client = Client::connect(&url).await?;
    let bench = Bench { url, client, quick: args.quick, progress: progress::bar(0) };
    let rows = vec![claims::woken_by_a_completion(&bench).await?, watchers::beside_one_that_never_reads(&bench).await?];
    bench.progress.finish_and_clear();
    let mut out = anstream::stdout().lock();
    if args.json {
        let report = serde_json::to_string(&Report { rows }).map_err(|error| Failure::failed(error.to_string()))?;
        writeln!(out, "{report}")?;
        return Ok(());
    }
    print(&mut out, &rows)
}

fn print(out: &mut impl Write, rows: &[Row]) -> Result<(), Failure> {
    let mut shown = table::new(&["WHAT", "VALUE", "P50", "P99", "CEILING", "RATIO", "AT MOST", "MET"]);
    for row in rows {
        let or_dash =
            |figure: Option<f64>| table::number(figure.map_or("-".to_owned(), |figure| format!("{figure:.2}")));
        let met = if row.met { Cell::new("yes").fg(Color::Green) } else { Cell::new("no").fg(Color::Red) };
        shown.add_row(vec![
            Cell::new(row.name),
            table::number(format!("{:.2} {}", row.value, row.unit)),
            or_dash(row.p50),
            or_dash(row.p99),
            or_dash(row.ceiling),
            or_dash(row.ratio),
            or_dash(Some(row.target)),
            met,
        ]);
    }
    table::print(out, &mut shown, "nothing was measured")?;
    Ok(())
}
