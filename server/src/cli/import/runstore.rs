//! `runhub import runstore`: a database written by the class RunStore.

mod reader;
mod statuses;
mod write;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use self::reader::RunStoreFile;
use self::statuses::{Mapping, Statuses};
use self::write::Import;
use super::{Failure, IntoArgs, bring_in, digest, refused};
use crate::cli::progress;

#[derive(Args)]
pub struct RunstoreArgs {
    /// The database file that RunStore wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    into: IntoArgs,

    /// What a status that Runhub does not know means, as KIND:OLD=NEW (task:parked=blocked); KIND is run, task,
    /// attempt or approval. May be given several times
    #[arg(long, value_name = "KIND:OLD=NEW")]
    map_status: Vec<Mapping>,
}

pub async fn run(args: RunstoreArgs) -> Result<(), Failure> {
    let file = RunStoreFile::read(&args.file).map_err(|error| refused(&args.file, error))?;
    if file.runs.is_empty() {
        return Err(Failure::failed(format!("{}: has no runs", args.file.display())));
    }
    let ids: Vec<&str> = file.runs.iter().map(|run| run.id.as_str()).collect();
    let digest = digest("runstore", ids.join("\n").as_bytes());
    let bar = progress::bar(file.row_count());
    let import = Arc::new(Import { file, statuses: Statuses::new(args.map_status.clone()), digest, bar });
    let writing = Arc::clone(&import);
    let left_out = bring_in(&args.file, &args.into, &import.bar, move |tx| writing.write(tx)).await?;
    print_summary(&import.file, &left_out, &args)
}

fn print_summary(
    file: &RunStoreFile,
    left_out: &BTreeMap<&'static str, usize>,
    args: &RunstoreArgs,
) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "Imported {} into {}", args.file.display(), args.into.db.display())?;
    let tables = [
        ("runs", file.runs.len(), "ids and times kept"),
        ("agents", file.agents.len(), "one state for each role"),
        ("tasks", file.tasks.len(), "ids, times and order kept; those in progress have no holder: requeue them"),
        ("attempts", file.attempts.len(), "ids and times kept"),
        ("events", file.events.len(), "order and times kept, under new positions"),
        ("artifacts", file.artifacts.len(), "ids and times kept"),
        ("checkpoints", file.checkpoints.len(), "ids and times kept"),
        ("approvals", file.approvals.len(), "ids kept; decided when they were written"),
    ];
    for (table, rows, how) in tables {
        let left_out = left_out.get(table).copied().unwrap_or(0);
        let note = if left_out == 0 {
            String::new()
        } else {
            format!("; {left_out} left out: their run or task is not there")
        };
        writeln!(out, "  {:>6} {table:<12} {how}{note}", rows - left_out)?;
    }
    for mapping in &args.map_status {
        writeln!(out, "  statuses mapped: {mapping}")?;
    }
    writeln!(out, "Look at it:  runhub serve --db {}   then   runhub runs", args.into.db.display())?;
    Ok(())
}
