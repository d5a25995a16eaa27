//! This module measures the memory of an idle server and the time that a server needs to start.

use std::time::Duration;

use crate::Error;
use crate::bench::Bench;
use crate::load;
use crate::own_server::OwnServer;
use crate::row::{Row, Target};
use crate::sample::Sample;
use crate::stream::subscribe;

/// Targets.
const MAX_MIB: f64 = 20.0;
const MAX_MIB_WITH_WATCHERS: f64 = 100.0;
const MAX_MILLIS_TO_READY: f64 = 50.0;

const WATCHERS: usize = 1_000;
const WATCHERS_PER_CONNECTION: usize = 100;
const STARTS: usize = 5;
/// The time that the bench waits before reading the server's memory. Within this time the server finishes its start or
/// accepts new connections.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Measures the start time and the memory of servers with an empty database, and returns the result rows. Fails if a
/// server can't be started or a call fails.
pub async fn measure_empty_server(bench: &Bench) -> Result<Vec<Row>, Error> {
    bench.start_progress("idle", STARTS + 1);
    let mut ready = Sample::new()?;
    for _ in 0..STARTS {
        ready.record(bench.start_server()?.ready_after);
        bench.advance(1);
    }
    measure_rows(bench, &ready, bench.start_server()?).await
}

/// Measures the start time and the memory of a server that the bench kills and restarts with an unchanged database.
/// Returns the result rows. Fails if the server can't be restarted or a call fails.
pub async fn measure_restarted_server(bench: &Bench, mut server: OwnServer) -> Result<Vec<Row>, Error> {
    bench.start_progress("idle", STARTS + 1);
    let mut ready = Sample::new()?;
    for _ in 0..STARTS {
        server = server.restart()?;
        ready.record(server.ready_after);
        bench.advance(1);
    }
    measure_rows(bench, &ready, server).await
}

async fn measure_rows(bench: &Bench, ready: &Sample, server: OwnServer) -> Result<Vec<Row>, Error> {
    let row = Row::new("start until the server is ready", "ms", ready.percentile(50));
    let mut rows = vec![row.with_target(Target::AtMost(MAX_MILLIS_TO_READY))];
    rows.extend(measure_memory(&server, "resident memory of an idle server", MAX_MIB).await);
    let run_id = bench.connect_to_server(&server.url).await?.create_run().await?;
    let mut streams = Vec::new();
    for _ in 0..WATCHERS / WATCHERS_PER_CONNECTION {
        let channel = load::connect(&server.url, load::WIDE_WINDOW).await?;
        for _ in 0..WATCHERS_PER_CONNECTION {
            streams.push(subscribe(&channel, &run_id).await?);
        }
    }
    rows.extend(measure_memory(&server, "resident memory with 1,000 idle watchers", MAX_MIB_WITH_WATCHERS).await);
    drop(streams);
    Ok(rows)
}

/// Returns the result row for the server's resident memory, or None if the operating system does not report the memory.
async fn measure_memory(server: &OwnServer, name: &str, max_mib: f64) -> Option<Row> {
    tokio::time::sleep(SETTLE_TIME).await;
    server.resident_mib().map(|mib| Row::new(name, "MiB", mib).with_target(Target::AtMost(max_mib)))
}
