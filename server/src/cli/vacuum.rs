//! This module implements `runhub vacuum`, which returns the unused space of the database to the file system.

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::maintenance::{self, DbArgs, format_bytes};
use super::out::Out;
use crate::store::maintenance::vacuum;

#[derive(Args)]
pub struct VacuumArgs {
    #[command(flatten)]
    target: DbArgs,

    /// Print the result as one JSON object: {"db", "bytesBefore", "bytesAfter", "converted"}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    db: String,
    bytes_before: u64,
    bytes_after: u64,
    converted: bool,
}

pub async fn run(args: VacuumArgs) -> Result<(), Failure> {
    let db = args.target.db.clone();
    let done = maintenance::run(move |control| vacuum(&db, control)).await?;
    let db = args.target.db.display().to_string();
    if args.json {
        let (bytes_before, bytes_after) = (done.bytes_before, done.bytes_after);
        return maintenance::print_json(&Report { db, bytes_before, bytes_after, converted: done.is_converted });
    }
    let mut out = Out::stdout();
    out.print_text(format_args!("Vacuumed {db}"))?;
    maintenance::print_fields(
        &mut out,
        &[
            ("before", format_bytes(done.bytes_before)),
            ("after", format_bytes(done.bytes_after)),
            ("returned", format_bytes(done.bytes_before.saturating_sub(done.bytes_after))),
        ],
    )?;
    if done.is_converted {
        out.print_text("From now on, the server returns free space by itself.")?;
    }
    Ok(())
}
