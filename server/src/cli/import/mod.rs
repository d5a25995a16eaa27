//! This module implements `runhub import`, which imports the runs and tasks of another tool in one transaction.

mod beads;
mod runstore;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::Failure;
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::store::{Store, Tx, imports};

#[derive(Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    source: Source,
}

#[derive(Subcommand)]
enum Source {
    /// Import a database that the TypeScript class RunStore wrote.
    Runstore(runstore::RunstoreArgs),
    /// Import a beads ledger (issues.jsonl) as one run.
    ///
    /// Agents can claim the issues that `bd ready` would show: open issues of a kind that is work, once their blockers
    /// and the blockers of their parents are completed. Closed issues become COMPLETED tasks, and deleted issues
    /// (tombstones) are left out. A deferred issue waits until its defer_until. Every other issue becomes a BLOCKED
    /// task, whose blocker_signature states the reason: beads_blocked, beads_in_progress, beads_hooked, beads_pinned,
    /// beads_deferred, or beads_not_work for epics, wisps, and kinds such as event, message and gate.
    ///
    /// The import repairs invalid input if the repair is plain, and reports each repair with the line and the field.
    Beads(beads::BeadsArgs),
}

/// Contains the option that selects the database file of an import.
#[derive(Args)]
struct TargetArgs {
    /// The database file to import into. Stop any server that uses this file before the import.
    #[arg(long, env = "RUNHUB_DB", value_name = "FILE", default_value = "runhub.db")]
    db: PathBuf,
}

impl TargetArgs {
    fn open(&self) -> Result<Store, Failure> {
        Store::open(&self.db, Arc::new(SystemClock::new()), Box::new(|_| {}))
            .map_err(|error| Failure::failed(error.to_string()))
    }
}

pub async fn run(args: ImportArgs) -> Result<(), Failure> {
    match args.source {
        Source::Runstore(args) => runstore::run(args).await,
        Source::Beads(args) => beads::run(args).await,
    }
}

/// Returns the result of `write`, which runs in one transaction on the target database. If `write` fails, the import
/// fails and changes nothing.
async fn import<T, F>(file: &Path, target: &TargetArgs, bar: &ProgressBar, write: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
{
    let store = target.open()?;
    let result = store.transact(write).await;
    store.close().await;
    bar.finish_and_clear();
    result.map_err(|error| import_failure(file, error))
}

/// Returns the content of a file. Fails with an error that names the file if the file can't be read.
fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| {
        Failure::failed(format!("can't read the file {}: {error}: check the path and the permissions", file.display()))
    })
}

/// Returns the digest of the imported data, with which a later import can detect that the data was imported before.
fn import_digest(kind: &str, bytes: &[u8]) -> String {
    let digest = Sha256::new().chain_update(kind).chain_update(bytes).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records the import in the database. Fails if the database contains an import with the same digest.
fn record_import(tx: &mut dyn Tx, digest: &str, kind: &str, run_count: usize) -> Result<()> {
    if let Some(time) = imports::find(tx, digest)? {
        let when = super::table::format_time(Some(&time.into()));
        let problem = format!(
            "the file was imported before, on {when}, so nothing was changed: pass another file, or another \
             database with --db"
        );
        return Err(Error::field("file", problem));
    }
    imports::insert(tx, digest, kind, i64::try_from(run_count).unwrap_or(i64::MAX))
}

/// Returns the failure of an import. The message starts with the name of the imported file.
fn import_failure(file: &Path, error: Error) -> Failure {
    let problem = match error {
        Error::InvalidField { field, problem } if field == "file" => problem,
        Error::StoreFull => {
            "the disk of the database is full, so nothing was imported: free disk space, or pass another \
                             database with --db"
                .to_owned()
        }
        other => other.to_string(),
    };
    Failure::failed(format!("{}: {problem}", file.display()))
}
