//! `runhub import`: imports existing work in one transaction.

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
    /// Import a database that the TypeScript class RunStore wrote
    Runstore(runstore::RunstoreArgs),
    /// Import a beads ledger (issues.jsonl) as one run
    Beads(beads::BeadsArgs),
}

/// The option that names the target of an import.
#[derive(Args)]
struct TargetArgs {
    /// The database file to import into. No server may have it open
    #[arg(long, env = "RUNHUB_DB", value_name = "FILE", default_value = "runhub.db")]
    db: PathBuf,
}

impl TargetArgs {
    fn open(&self) -> Result<Store, Failure> {
        Store::open(&self.db, Arc::new(SystemClock), Box::new(|_| {}))
            .map_err(|error| Failure::failed(error.to_string()))
    }
}

pub async fn run(args: ImportArgs) -> Result<(), Failure> {
    match args.source {
        Source::Runstore(args) => runstore::run(args).await,
        Source::Beads(args) => beads::run(args).await,
    }
}

/// Runs `write` in one transaction on the target. Fails without a change if `write` fails.
async fn import<T, F>(file: &Path, target: &TargetArgs, bar: &ProgressBar, write: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
{
    let store = target.open()?;
    let result = store.transact(write).await;
    store.close().await;
    bar.finish_and_clear();
    result.map_err(|error| failure(file, error))
}

/// Reads a whole file.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::failed(format!("can't read {}: {error}", file.display())))
}

/// Returns the digest by which a second import of the same work is recognized.
fn digest(kind: &str, bytes: &[u8]) -> String {
    let digest = Sha256::new().chain_update(kind).chain_update(bytes).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records the import. Fails if an import with this digest is recorded already.
fn record_import(tx: &mut dyn Tx, digest: &str, kind: &str, run_count: usize) -> Result<()> {
    if let Some(time) = imports::find(tx, digest)? {
        let when = super::table::time(Some(&time.into()));
        return Err(Error::field("file", format!("was imported before, on {when}, so nothing was changed")));
    }
    imports::insert(tx, digest, kind, i64::try_from(run_count).unwrap_or(i64::MAX))
}

/// Returns the failure of an import, with the file's name in front of the problem.
fn failure(file: &Path, error: Error) -> Failure {
    let problem = match error {
        Error::InvalidField { field, problem } if field == "file" => problem,
        other => other.to_string(),
    };
    Failure::failed(format!("{}: {problem}", file.display()))
}
