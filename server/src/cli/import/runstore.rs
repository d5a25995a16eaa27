//! This module implements `runhub import runstore`, which imports a database that the TypeScript class RunStore wrote.

mod reader;
mod statuses;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use self::reader::RunStoreFile;
use self::statuses::{Mapping, Statuses};
use self::write::Import;
use super::{Failure, TargetArgs, import, import_digest, import_failure};
use crate::cli::out::Out;
use crate::cli::progress;

#[derive(Args)]
pub struct RunstoreArgs {
    /// The database file that RunStore wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    target: TargetArgs,

    /// Map a status that Runhub does not know, as KIND:OLD=NEW, for example task:parked=blocked. KIND is run, task,
    /// attempt or approval. The option can be repeated.
    #[arg(long, value_name = "KIND:OLD=NEW")]
    map_status: Vec<Mapping>,
}

pub async fn run(args: RunstoreArgs) -> Result<(), Failure> {
    let file = RunStoreFile::read(&args.file).map_err(|error| import_failure(&args.file, error))?;
    if file.runs.is_empty() {
        return Err(Failure::failed(format!(
            "the database {} has no runs to import: pass a RunStore database with at least one run",
            args.file.display()
        )));
    }
    let ids: Vec<&str> = file.runs.iter().map(|run| run.id.as_str()).collect();
    let digest = import_digest("runstore", ids.join("\n").as_bytes());
    let bar = progress::new_progress_bar(file.row_count());
    let content = Arc::new(Import { file, statuses: Statuses::new(args.map_status.clone()), digest, bar });
    let to_write = Arc::clone(&content);
    let left_out = import(&args.file, &args.target, &content.bar, move |tx| to_write.write(tx)).await?;
    print_summary(&content.file, &left_out, &args)
}

/// Prints the number of imported rows and of skipped rows for each table. Fails if the output can't be written.
fn print_summary(
    file: &RunStoreFile,
    left_out: &BTreeMap<&'static str, usize>,
    args: &RunstoreArgs,
) -> Result<(), Failure> {
    let mut out = Out::stdout();
    out.print_text(format_args!("Imported {} into {}", args.file.display(), args.target.db.display()))?;
    let tables = [
        ("runs", file.runs.len(), "ids and times kept"),
        ("agents", file.agents.len(), "one state per role"),
        ("tasks", file.tasks.len(), "ids, times and order kept; in-progress tasks have no holder, so requeue them"),
        ("attempts", file.attempts.len(), "ids and times kept"),
        ("events", file.events.len(), "order and times kept, with new positions"),
        ("artifacts", file.artifacts.len(), "ids and times kept"),
        ("checkpoints", file.checkpoints.len(), "ids and times kept"),
        ("approvals", file.approvals.len(), "ids kept; decided at the time when they were written"),
    ];
    for (table, rows, how) in tables {
        let left_out = left_out.get(table).copied().unwrap_or(0);
        let note = match left_out {
            0 => String::new(),
            count => format!("; {count} left out, because their run or task does not exist"),
        };
        out.print_text(format_args!("  {:>6} {table:<12} {how}{note}", rows - left_out))?;
    }
    for mapping in &args.map_status {
        out.print_text(format_args!("  status mapped: {mapping}"))?;
    }
    out.print_text(format_args!("To see it:  runhub serve --db {}   then   runhub runs", args.target.db.display()))?;
    Ok(())
}
