//! What a server costs that has nothing to do.

use std::time::Duration;

use super::Bench;
use super::load;
use super::own_server::OwnServer;
use super::row::{Row, Target};
use super::sample::Sample;
use super::stream::subscribe;
use crate::cli::Failure;

/// The design's.
const MOST_MIB: f64 = 30.0;
const MOST_MIB_WITH_WATCHERS: f64 = 100.0;
const MOST_MILLIS_TO_READY: f64 = 150.0;

const WATCHERS: usize = 1_000;
const PER_CONNECTION: usize = 100;
const STARTS: usize = 5;

/// The rows of a server with nothing in it.
pub async fn all(bench: &Bench) -> Result<Vec<Row>, Failure> {
    bench.begin("idle", STARTS + 1);
    let mut ready = Sample::default();
    for _ in 0..STARTS {
        ready.add(OwnServer::start()?.ready_after);
        bench.progress.inc(1);
    }
    rows(bench, &ready, OwnServer::start()?).await
}

/// The rows of one that is killed and started again with what it has.
pub async fn of_restarted(bench: &Bench, mut server: OwnServer) -> Result<Vec<Row>, Failure> {
    bench.begin("idle", STARTS + 1);
    let mut ready = Sample::default();
    for _ in 0..STARTS {
        server = server.restart()?;
        ready.add(server.ready_after);
        bench.progress.inc(1);
    }
    rows(bench, &ready, server).await
}

async fn rows(bench: &Bench, ready: &Sample, server: OwnServer) -> Result<Vec<Row>, Failure> {
    let row = Row::new("ready after its start", "ms", ready.percentile(50));
    let mut rows = vec![row.judged_by(Target::AtMost(MOST_MILLIS_TO_READY))];
    rows.extend(resident(&server, "idle server, resident", MOST_MIB).await);
    let (run_id, mut streams) = (bench.at(&server.url).await?.new_run().await?, Vec::new());
    for _ in 0..WATCHERS / PER_CONNECTION {
        let channel = load::connect(&server.url, load::WIDE).await?;
        for _ in 0..PER_CONNECTION {
            streams.push(subscribe(&channel, &run_id).await?);
        }
    }
    rows.extend(resident(&server, "1,000 idle watchers, resident", MOST_MIB_WITH_WATCHERS).await);
    drop(streams);
    Ok(rows)
}

/// Where the system does not say there is no row.
async fn resident(server: &OwnServer, name: &str, most: f64) -> Option<Row> {
    // What it does at its start, or for who has just come, is done by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.resident_mib().map(|mib| Row::new(name, "MiB", mib).judged_by(Target::AtMost(most)))
}
