//! This module implements `runhub migrate`, which creates or migrates the tables of a PostgreSQL database.

use clap::Args;

use super::Failure;
use super::out::Out;
use super::store_option::StoreParser;
use crate::store::{self, Migrated, PostgresAddress};

#[derive(Args)]
pub struct MigrateArgs {
    /// The PostgreSQL database, as postgres://USER@HOST/DB.
    #[arg(long, env = "RUNHUB_STORE", value_name = "URL", hide_env_values = true, value_parser = StoreParser)]
    store: PostgresAddress,
}

pub fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let Migrated { from, to } = store::migrate(&args.store).map_err(|error| Failure::failed(error.to_string()))?;
    let database = &args.store;
    let mut out = Out::stdout();
    match from {
        None => out.print_text(format_args!("created the tables in {database}, schema version {to}")),
        Some(from) if from == to => out.print_text(format_args!("{database} has the schema version {to} already")),
        Some(from) => out.print_text(format_args!("migrated {database} from schema version {from} to {to}")),
    }?;
    Ok(())
}
