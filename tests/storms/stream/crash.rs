//! `kill -9` under watchers, with steps of the clock and a full disk: events that were seen stay in the log, and acknowledged events reach the watchers.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runhub_client::Client;
use runhub_client::v1::*;
use tokio::task::JoinSet;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::faults::{Faults, Refusals};
use crate::support::oracle::{PartEnd, assert_no_violations, position};
use crate::support::random::Random;
use crate::support::record::{Recorder, committed_log};
use crate::support::{channel, print_figures};

const CYCLES: usize = 100;
const WRITERS: usize = 4;
const WATCHERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_seen_and_no_acknowledged_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Faults::new(folder.path());
    let db = faults.db();
    let mut server = faults.start();
    let runs = [new_run(&server.connect().await).await.id, new_run(&server.connect().await).await.id];
    let mut watchers: Vec<Recorder> = (0..WATCHERS).map(|at| Recorder::new(&db, request(at, &runs))).collect();
    let mut acknowledged = BTreeSet::new();
    let mut random = Random::new(5);
    let refusals = Arc::new(Refusals::default());
    for _ in 0..CYCLES {
        let mut writing = JoinSet::new();
        for writer in 0..WRITERS {
            writing.spawn(write(server.connect().await, runs[writer % runs.len()].clone(), Arc::clone(&refusals)));
        }
        let watching = watch_until_killed(std::mem::take(&mut watchers), &server).await;
        match random.below(100) {
            0..20 => faults.step_clock_and_wait(&mut random).await,
            20..25 => faults.fill_disk_and_wait(&server.connect().await, &mut random, &refusals).await,
            25..50 => faults.fill_disk(&mut random),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(20 + random.below(60) as u64)).await;
        server.kill();
        faults.free_disk();
        acknowledged.extend(writing.join_all().await.into_iter().flatten());
        watchers = watching.join_all().await;
        if random.percent(20) {
            faults.step_clock_at_random(&mut random);
        }
        server = faults.start();
    }
    assert!(refusals.count() > CYCLES, "the disk was full too rarely: {} refusals", refusals.count());
    faults.assert_no_reported_loss();
    finish(&server, &db, &runs, watchers, &acknowledged).await;
}

fn request(at: usize, runs: &[String; 2]) -> SubscribeEventsRequest {
    SubscribeEventsRequest {
        run_id: [String::new(), runs[0].clone(), runs[1].clone()][at % 3].clone(),
        kinds: if at >= 3 { vec!["b*".into()] } else { vec![] },
        bookmark_interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..unset()
    }
}

/// Appends until the server is killed. Returns the positions that were acknowledged.
async fn write(client: Client, run_id: String, refusals: Arc<Refusals>) -> Vec<i64> {
    let mut positions = Vec::new();
    loop {
        let events = vec![event("a"), event("b")];
        let request = AppendEventsRequest { run_id: run_id.clone(), events, ..unset() };
        match refusals.retry(|| client.append_events(request.clone())).await {
            Ok(answer) => positions.extend([answer.last_position - 1, answer.last_position]),
            Err(_) => return positions,
        }
    }
}

async fn watch_until_killed(watchers: Vec<Recorder>, server: &Binary) -> JoinSet<Recorder> {
    let mut watching = JoinSet::new();
    for mut watcher in watchers {
        let channel = channel(&format!("http://{}", server.address)).await;
        watching.spawn(async move {
            watcher.record(channel, |_| false).await;
            watcher
        });
    }
    watching
}

/// Reads every stream up to the newest position, runs the oracle, and checks that streams without a filter have every
/// acknowledged event.
async fn finish(server: &Binary, db: &Path, runs: &[String; 2], watchers: Vec<Recorder>, acknowledged: &BTreeSet<i64>) {
    let client = server.connect().await;
    for run_id in runs {
        set_status(&client, run_id, RunStatus::Completed).await;
    }
    let log = committed_log(db);
    let newest = log.newest();
    let mut deliveries = 0;
    let mut parts = 0;
    for mut watcher in watchers {
        let channel = channel(&format!("http://{}", server.address)).await;
        let is_last = |message: &_| position(message) >= Some(newest);
        watcher.record(channel, is_last).await;
        assert_no_violations(&log, &watcher.parts);
        assert!(watcher.parts[..CYCLES].iter().all(|part| part.end == PartEnd::Cut));
        let seen: BTreeSet<i64> =
            watcher.parts.iter().flat_map(|part| part.events()).map(|event| event.position).collect();
        deliveries += seen.len();
        parts += watcher.parts.len();
        if watcher.parts[0].request.run_id.is_empty() && watcher.parts[0].request.kinds.is_empty() {
            assert!(acknowledged.is_subset(&seen), "an acknowledged event is missing from the stream");
        }
    }
    print_figures(&format!(
        "crash: {CYCLES} cycles, {} acknowledged, {deliveries} deliveries, {parts} parts",
        acknowledged.len()
    ));
    assert!(acknowledged.len() > CYCLES * 20 && deliveries > CYCLES * 100);
}
