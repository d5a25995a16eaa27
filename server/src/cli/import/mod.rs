//! `runhub import`: brings in real work, all of it or nothing.

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
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A database written by the TypeScript class RunStore
    Runstore(runstore::RunstoreArgs),
    /// A beads ledger (issues.jsonl), as one run
    Beads(beads::BeadsArgs),
}

/// Where it goes.
#[derive(Args)]
struct IntoArgs {
    /// The database file to bring it into; no server may have it open
    #[arg(long, env = "RUNHUB_DB", value_name = "FILE", default_value = "runhub.db")]
    db: PathBuf,
}

impl IntoArgs {
    fn open(&self) -> Result<Store, Failure> {
        Store::open(&self.db, Arc::new(SystemClock), Box::new(|_| {}))
            .map_err(|error| Failure::failed(error.to_string()))
    }
}

pub async fn run(args: ImportArgs) -> Result<(), Failure> {
    match args.what {
        What::Runstore(args) => runstore::run(args).await,
        What::Beads(args) => beads::run(args).await,
    }
}

/// Writes everything in one transaction, and says so if it was refused.
async fn bring_in<T, F>(file: &Path, into: &IntoArgs, bar: &ProgressBar, write: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
{
    let store = into.open()?;
    let done = store.transact(write).await;
    store.close().await;
    bar.finish_and_clear();
    done.map_err(|error| refused(file, error))
}

/// Reads a file whole.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::failed(format!("can't read {}: {error}", file.display())))
}

fn digest(kind: &str, bytes: &[u8]) -> String {
    let digest = Sha256::new().chain_update(kind).chain_update(bytes).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Notes what comes in; refuses what came in before.
fn note_import(tx: &mut dyn Tx, digest: &str, kind: &str, run_count: usize) -> Result<()> {
    if let Some(time) = imports::find(tx, digest)? {
        let when = super::table::time(Some(&time.into()));
        return Err(Error::field("file", format!("was imported before, on {when}: nothing was changed")));
    }
    imports::insert(tx, digest, kind, i64::try_from(run_count).unwrap_or(i64::MAX))
}

/// What was refused, in the words of whoever runs the import.
fn refused(file: &Path, error: Error) -> Failure {
    let problem = match error {
        Error::InvalidField { field, problem } if field == "file" => problem,
        other => other.to_string(),
    };
    Failure::failed(format!("{}: {problem}", file.display()))
}
