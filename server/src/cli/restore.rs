//! This module implements `runhub restore`, which creates a database from a backup.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::maintenance::{self, DbArgs, format_bytes};
use super::out::Out;
use crate::store::maintenance::restore;

#[derive(Args)]
#[command(after_help = "\
Examples:
  runhub restore backup.db --db restored.db
  runhub restore /mnt/backups/runhub-2026-01-31.db --db /var/lib/runhub/runhub.db")]
pub struct RestoreArgs {
    /// The backup to restore: a file of `runhub backup`, or the database file of a server that has stopped.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    target: DbArgs,

    /// Print the result as one JSON object: {"db", "bytes", "oldLogId", "logId", "lastPosition"}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    db: String,
    bytes: u64,
    old_log_id: String,
    log_id: String,
    last_position: String,
}

pub async fn run(args: RestoreArgs) -> Result<(), Failure> {
    let (db, file) = (args.target.db.clone(), args.file.clone());
    let done = maintenance::run(move |control| restore(&file, &db, control)).await?;
    let (db, old, new) = (args.target.db.display().to_string(), done.log.old, done.log.new);
    if args.json {
        let last_position = new.last_position.to_string();
        let (old_log_id, log_id) = (old.log_id, new.log_id);
        return maintenance::print_json(&Report { db, bytes: done.bytes, old_log_id, log_id, last_position });
    }
    let mut out = Out::stdout();
    out.print_text(format_args!("Restored {} into {db}", args.file.display()))?;
    maintenance::print_fields(
        &mut out,
        &[
            ("size", format_bytes(done.bytes)),
            ("log_id", new.log_id),
            ("old log_id", old.log_id),
            ("next position", (new.last_position + 1).to_string()),
        ],
    )?;
    out.print_text("Old cursors are invalid: watch again from a snapshot.")?;
    out.print_text(format_args!("To serve it:  runhub serve --db {db}"))?;
    Ok(())
}
