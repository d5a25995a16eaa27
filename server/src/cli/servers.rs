//! This module implements `runhub servers`, which lists the servers that share the database.

use clap::Args;
use runhub_api::v1;

use super::out::{Cell, Out, Table};
use super::{Failure, ServerArgs, json, table};

#[derive(Args)]
pub struct ServersArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print each server as one JSON object on its own line.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: ServersArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    let servers = client.list_servers(v1::ListServersRequest {}).await?.servers;
    if args.json {
        return json::print_each("Server", &servers);
    }
    let mut rows = Table::new(&["SERVER", "ADDRESS", "VERSION", "STARTED", "ALIVE", "SWEEPER"]);
    for server in &servers {
        rows.add_row([
            Cell::new(&server.id),
            Cell::new(if server.address.is_empty() { "-" } else { &server.address }),
            Cell::new(&server.version),
            Cell::new(table::format_time(server.start_time.as_ref())),
            Cell::new(table::format_time(server.alive_time.as_ref())),
            Cell::new(if server.is_sweeper { "yes" } else { "no" }),
        ]);
    }
    Out::stdout().print_table(rows, "There are no servers.")?;
    Ok(())
}
