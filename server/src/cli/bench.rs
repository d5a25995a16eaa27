//! This module implements `runhub bench`, which runs the benchmarks of the crate `runhub-bench` with this binary as the
//! server, and prints the measurements.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use runhub_bench::{Database, Databases, Host, Options, Row};
use serde::Serialize;

use super::out::{self, Cell, Color, Out, Table};
use super::{Failure, progress, store_option, table};
use crate::domain::limits;
use crate::store::{PostgresAddress, TemporaryDatabase};

#[derive(Args)]
#[command(after_help = "\
VALUE is a rate, a time or a size. P50 and P99 are the times of one call, in milliseconds. CEILING is the reference \
value for VALUE, measured in the same run. The text after the semicolon in WHAT describes CEILING. RATIO is VALUE \
divided by CEILING. TARGET applies to RATIO, or to VALUE if there is no CEILING.

A full run takes about nine minutes and needs several hundred megabytes in the folder for temporary files.

Examples:
  runhub bench
  runhub bench appends claims --agents 16
  runhub bench store --store postgres://runhub@db.example/postgres
  runhub bench growth --json | jq '.rows[] | select(.met == false)'")]
pub struct BenchArgs {
    #[command(flatten)]
    options: Options,

    /// Print the measurements as one JSON object: {"rows": [{"name", "value", "ceiling", "ratio", "target", "met"}]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
}

pub async fn run(args: BenchArgs) -> Result<(), Failure> {
    // The group `abuse` opens 10,000 connections. If the limit can't be raised, the group opens fewer connections.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let databases = args.options.store.as_deref().map(BenchDatabases::new).transpose()?;
    let host = Host {
        databases: databases.map(|databases| Arc::new(databases) as Arc<dyn Databases>),
        program: std::env::current_exe()?,
        max_calls_in_service: limits::CALLS_IN_SERVICE,
        progress: progress::new_progress_bar(0),
    };
    let rows = runhub_bench::run(&args.options, host).await?;
    if args.json {
        let report = serde_json::to_string(&Report { rows }).map_err(|error| Failure::failed(error.to_string()))?;
        return Ok(out::print_json(&report)?);
    }
    Ok(Out::stdout().print_table(to_table(&rows), "nothing was measured")?)
}

/// Creates the databases of the bench on the PostgreSQL server of the database that the user has named.
struct BenchDatabases {
    url: String,
    address: PostgresAddress,
    created: AtomicUsize,
}

/// Shows the address and not the URL, because the URL can contain a password.
impl fmt::Debug for BenchDatabases {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        self.address.fmt(to)
    }
}

impl BenchDatabases {
    fn new(url: &str) -> Result<Self, Failure> {
        let address = store_option::parse(url.as_ref());
        let address = address.map_err(|cause| Failure::usage(format!("invalid value for '--store <URL>': {cause}")))?;
        Ok(Self { url: url.to_owned(), address, created: AtomicUsize::new(0) })
    }
}

impl Databases for BenchDatabases {
    fn create(&self) -> Result<Box<dyn Database>, String> {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let created = TemporaryDatabase::create(&self.address, &self.url, number);
        created.map(|database| Box::new(BenchDatabase(database)) as _).map_err(|error| error.to_string())
    }
}

/// A database of the bench. Dropping the value removes the database.
#[derive(Debug)]
struct BenchDatabase(TemporaryDatabase);

impl Database for BenchDatabase {
    fn url(&self) -> &str {
        self.0.url()
    }
}

impl Drop for BenchDatabase {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            // Ignore the failure: if standard error is closed, nobody reads the message.
            let _ = Out::stderr().print_text(format_args!("can't remove a database of the bench: {error}"));
        }
    }
}

fn to_table(rows: &[Row]) -> Table {
    let mut shown = Table::new(&["WHAT", "VALUE", "P50 MS", "P99 MS", "CEILING", "RATIO", "TARGET", "MET"]);
    for row in rows {
        let figure = |figure: Option<f64>| table::number_cell(figure.map_or("-".to_owned(), format_figure));
        let met = match row.met {
            Some(true) => Cell::new("yes").color(Color::Green),
            Some(false) => Cell::new("no").color(Color::Red),
            None => Cell::new("-"),
        };
        shown.add_row(vec![
            Cell::new(&row.name),
            table::number_cell(format!("{} {}", format_figure(row.value), row.unit)),
            figure(row.p50),
            figure(row.p99),
            figure(row.ceiling),
            figure(row.ratio),
            table::number_cell(row.target.map_or("-".to_owned(), |target| target.to_string())),
            met,
        ]);
    }
    shown
}

/// Returns a measured value as text, with two decimals below 100 and without decimals from 100, because the
/// measurements are not more precise. Returns `-` for NaN, which means that the value was not measured.
fn format_figure(figure: f64) -> String {
    match figure {
        unmeasured if unmeasured.is_nan() => "-".to_owned(),
        small if small < 100.0 => format!("{small:.2}"),
        large => format!("{large:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmeasured_figure_is_shown_as_a_dash() {
        assert_eq!([f64::NAN, 0.456, 99.994, 100.4].map(format_figure), ["-", "0.46", "99.99", "100"]);
    }
}
