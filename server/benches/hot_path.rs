//! What a profile of the server showed to matter, by itself: `cargo bench -p runhub-server`. How fast the whole is, and
//! against what, says `runhub bench`.

#![allow(missing_docs, clippy::unwrap_used)] // As in a test: what fails ends it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use prost::Message;
use runhub_api::v1::subscribe_events_response::Message as Sent;
use runhub_api::{Encoded, Json, v1};
use runhub_server::actions::claim::{self, ClaimRequest};
use runhub_server::actions::paths::Overlaps;
use runhub_server::actions::plan;
use runhub_server::actions::task::{self, EndTask};
use runhub_server::clock::SystemClock;
use runhub_server::domain::event::EventDraft;
use runhub_server::domain::json;
use runhub_server::domain::run::{Run, RunDraft};
use runhub_server::domain::task::{Caller, EndStatus, Ending, TaskDraft, TaskSpec};
use runhub_server::error::Error;
use runhub_server::store::{Store, events, runs};
use tokio::runtime::Runtime;

const PAYLOAD: &str =
    r#"{"tool":"edit","path":"src/parser/lexer.rs","line":42,"ok":true,"note":"one token of lookahead is enough"}"#;

/// A store on a temporary file, with a run.
struct World {
    runtime: Runtime,
    store: Store,
    run: Run,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let _inside = runtime.enter();
        let store = Store::open(&folder.path().join("db"), Arc::new(SystemClock), Box::new(|_| {})).unwrap();
        let run = runtime.block_on(store.transact(|tx| {
            let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
            let run = Run::new(tx.next_key()?, tx.new_id(), draft, tx.now());
            runs::insert(tx, &run)?;
            Ok(run)
        }));
        drop(_inside);
        Self { runtime, store, run: run.unwrap(), _folder: folder }
    }

    async fn append(&self, count: usize) {
        let (key, event) = (self.run.key, event());
        let body =
            move |tx: &mut dyn runhub_server::store::Tx| events::append_all(tx, key, &vec![event.clone(); count]);
        self.store.transact(body).await.unwrap();
    }
}

fn event() -> EventDraft {
    let payload = json::Json::from_text(PAYLOAD.into());
    EventDraft { task_key: None, source: "agent".into(), kind: "tool_used".into(), message: "edited".into(), payload }
}

/// With their commits, so the disk is in it.
fn appends(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("append");
    group.bench_function("one", |bench| bench.to_async(&world.runtime).iter(|| world.append(1)));
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 callers, one each", |bench| {
        bench.to_async(&world.runtime).iter(|| join_all((0..64).map(|_| world.append(1))));
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 in a call", |bench| bench.to_async(&world.runtime).iter(|| world.append(100)));
    group.finish();
}

/// A hundred in one commit, each given back, beside ten thousand tasks.
fn claims(criterion: &mut Criterion) {
    let world = World::new();
    let drafts = vec![TaskDraft { key: String::new(), spec: TaskSpec::default(), depends_on: vec![] }; 1_000];
    let run_id = world.run.id.clone();
    for _ in 0..10 {
        let (run_id, drafts) = (run_id.clone(), drafts.clone());
        world.runtime.block_on(world.store.transact(move |tx| plan::add(tx, &run_id, &drafts))).unwrap();
    }
    let overlaps = Arc::new(Overlaps::default());
    let mut group = criterion.benchmark_group("claim and release");
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 in one commit", |bench| {
        bench.to_async(&world.runtime).iter(|| {
            let (wanted, overlaps) = (claim_request(&run_id), Arc::clone(&overlaps));
            let all =
                world.store.transact(move |tx| (0..100).try_for_each(|_| claim_and_release(tx, &wanted, &overlaps)));
            async move { all.await.unwrap() }
        });
    });
    group.finish();
}

fn claim_request(run_id: &str) -> ClaimRequest {
    let lease_duration = Duration::from_secs(600);
    ClaimRequest { run_id: Some(run_id.to_owned()), agent_id: "agent".into(), capabilities: vec![], lease_duration }
}

fn claim_and_release(
    tx: &mut dyn runhub_server::store::Tx,
    wanted: &ClaimRequest,
    overlaps: &Overlaps,
) -> Result<(), Error> {
    let claimed = claim::claim(tx, wanted, overlaps)?.ok_or_else(|| Error::internal("there is nothing to claim"))?;
    let ending = Ending::new(EndStatus::Released);
    let caller = Caller::Holder(claimed.lease.token);
    task::end(tx, &EndTask { rpc: "ReleaseTask", task_id: claimed.task.id, caller, ending }).map(drop)
}

/// Payloads on their way into the store and out of it, and events on their way to watchers.
fn conversions(criterion: &mut Criterion) {
    let payload = Json::parse(PAYLOAD).unwrap();
    criterion.bench_function("payload to JSON", |bench| {
        bench.iter(|| serde_json::to_string(&Json(black_box(&payload))).unwrap());
    });
    criterion.bench_function("payload from JSON", |bench| bench.iter(|| Json::parse(black_box(PAYLOAD)).unwrap()));
    let event = v1::Event { source: "agent".into(), payload: Some(payload), ..Default::default() };
    let response = v1::SubscribeEventsResponse { message: Some(Sent::Event(event)) };
    criterion.bench_function("event encoded once", |bench| bench.iter(|| Encoded::from(black_box(response.clone()))));
    let encoded = Encoded::from(response);
    criterion.bench_function("event sent to one more watcher", |bench| {
        let mut buffer = Vec::with_capacity(1_024);
        bench.iter(|| {
            buffer.clear();
            black_box(&encoded).clone().encode(&mut buffer).unwrap();
        });
    });
}

criterion_group!(benches, appends, claims, conversions);
criterion_main!(benches);
