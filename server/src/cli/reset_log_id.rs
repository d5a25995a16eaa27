//! This module implements `runhub reset-log-id`, which gives a copy of a database a new log_id.

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::maintenance::{self, DbArgs};
use super::out::Out;
use crate::store::maintenance::reset_log_id;

#[derive(Args)]
pub struct ResetLogIdArgs {
    #[command(flatten)]
    target: DbArgs,

    /// Print the result as one JSON object: {"db", "oldLogId", "logId", "lastPosition"}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    db: String,
    old_log_id: String,
    log_id: String,
    last_position: String,
}

pub async fn run(args: ResetLogIdArgs) -> Result<(), Failure> {
    let db = args.target.db.clone();
    let done = maintenance::run(move |_| reset_log_id(&db)).await?;
    let (db, old, new) = (args.target.db.display().to_string(), done.old, done.new);
    if args.json {
        let last_position = new.last_position.to_string();
        return maintenance::print_json(&Report { db, old_log_id: old.log_id, log_id: new.log_id, last_position });
    }
    let mut out = Out::stdout();
    out.print_text(format_args!("{db} has a new log_id"))?;
    maintenance::print_fields(
        &mut out,
        &[("log_id", new.log_id), ("old log_id", old.log_id), ("next position", (new.last_position + 1).to_string())],
    )?;
    out.print_text("Old cursors are invalid: watch again from a snapshot.")?;
    Ok(())
}
