//! This module implements `runhub backup`, which copies the database.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::maintenance::{self, DbArgs, format_bytes};
use super::out::Out;
use crate::store::maintenance::backup;

#[derive(Args)]
#[command(after_help = "\
Examples:
  runhub backup backup.db
  runhub backup /mnt/backups/runhub-$(date +%F).db --db /var/lib/runhub/runhub.db
  runhub backup backup.db --json | jq -r .logId")]
pub struct BackupArgs {
    /// The file to write. The file must not exist.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    target: DbArgs,

    /// Print the result as one JSON object: {"file", "bytes", "logId", "lastPosition"}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    file: String,
    bytes: u64,
    log_id: String,
    last_position: String,
}

pub async fn run(args: BackupArgs) -> Result<(), Failure> {
    let (db, file) = (args.target.db.clone(), args.file.clone());
    let done = maintenance::run(move |control| backup(&db, &file, control)).await?;
    let (file, end) = (args.file.display().to_string(), done.log_end);
    if args.json {
        let last_position = end.last_position.to_string();
        return maintenance::print_json(&Report { file, bytes: done.bytes, log_id: end.log_id, last_position });
    }
    let mut out = Out::stdout();
    out.print_text(format_args!("Backed up {} to {file}", args.target.db.display()))?;
    maintenance::print_fields(
        &mut out,
        &[
            ("size", format_bytes(done.bytes)),
            ("log_id", end.log_id),
            ("newest position", end.last_position.to_string()),
        ],
    )?;
    out.print_text(format_args!("To restore it:  runhub restore {file} --db NEW_FILE"))?;
    Ok(())
}
