//! This module benchmarks the parts of the server that take most of the time in profiles. Run the benchmarks with
//! `cargo bench -p runhub-server`. To measure the whole server, run `runhub bench`.

#![allow(missing_docs, clippy::unwrap_used)] // A failure ends the benchmark, as a failure ends a test.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use prost::Message;
use runhub_api::v1::subscribe_events_response::Message as Sent;
use runhub_api::{EncodedResponse, Json, v1};
use runhub_bench::EXAMPLE_PAYLOAD;
use runhub_server::actions::claim::{self, ClaimRequest};
use runhub_server::actions::claim_index::{ClaimIndex, Loading};
use runhub_server::actions::task::{self, EndTask};
use runhub_server::actions::{Outcome, plan};
use runhub_server::clock::SystemClock;
use runhub_server::domain::event::EventDraft;
use runhub_server::domain::json;
use runhub_server::domain::run::{Run, RunDraft};
use runhub_server::domain::task::{Caller, EndStatus, Ending, TaskDraft, TaskSpec};
use runhub_server::error::Error;
use runhub_server::store::{Store, Tx, events, runs};
use tokio::runtime::Runtime;

/// A store in a new folder in `std::env::temp_dir()`, with one run.
struct Fixture {
    runtime: Runtime,
    store: Store,
    run: Run,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = {
            let _guard = runtime.enter();
            Store::open(&folder.path().join("db"), Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap()
        };
        let run = runtime.block_on(store.transact(|tx| {
            let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
            let run = Run::new(tx.next_key()?, tx.new_id(), draft, tx.now());
            runs::insert(tx, &run)?;
            Ok(run)
        }));
        Self { runtime, store, run: run.unwrap(), _folder: folder }
    }

    async fn append(&self, count: usize) {
        let key = self.run.key;
        let events = vec![event_draft(); count];
        self.store.transact(move |tx| events::append_all(tx, key, &events)).await.unwrap();
    }
}

fn event_draft() -> EventDraft {
    let payload = json::Json::from_text(EXAMPLE_PAYLOAD.into());
    EventDraft { task_key: None, source: "agent".into(), kind: "tool_used".into(), message: "edited".into(), payload }
}

/// Measures the latency of appends. Each append commits, so the latency includes the write to the disk.
fn measure_appends(criterion: &mut Criterion) {
    let fixture = Fixture::new();
    let mut group = criterion.benchmark_group("append");
    group.bench_function("one", |bench| bench.to_async(&fixture.runtime).iter(|| fixture.append(1)));
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 callers, one each", |bench| {
        bench.to_async(&fixture.runtime).iter(|| join_all((0..64).map(|_| fixture.append(1))));
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 in a call", |bench| bench.to_async(&fixture.runtime).iter(|| fixture.append(100)));
    group.finish();
}

/// Measures the latency of 100 claims and releases in one commit, in a run with 10,000 tasks.
fn measure_claims(criterion: &mut Criterion) {
    let fixture = Fixture::new();
    let drafts = vec![TaskDraft { key: String::new(), spec: TaskSpec::default(), depends_on: vec![] }; 1_000];
    let run_id = fixture.run.id.clone();
    for _ in 0..10 {
        let run_id = run_id.clone();
        let drafts = drafts.clone();
        fixture.runtime.block_on(fixture.store.transact(move |tx| plan::add(tx, &run_id, &drafts))).unwrap();
    }
    let index = Arc::new(ClaimIndex::default());
    let loaded = Arc::clone(&index);
    let load = move |tx: &mut dyn Tx| loaded.load_page(tx, &mut Loading::default());
    assert!(fixture.runtime.block_on(fixture.store.read(load)).unwrap());
    let mut group = criterion.benchmark_group("claim and release");
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 in one commit", |bench| {
        bench.to_async(&fixture.runtime).iter(|| {
            let request = claim_request(&run_id);
            let index = Arc::clone(&index);
            let all = fixture.store.transact(move |tx| {
                for _ in 0..100 {
                    claim_and_release(tx, &request, &index)?;
                }
                Ok(())
            });
            async move { all.await.unwrap() }
        });
    });
    group.finish();
}

fn claim_request(run_id: &str) -> ClaimRequest {
    let lease_duration = Duration::from_secs(600);
    ClaimRequest { run_id: Some(run_id.to_owned()), agent_id: "agent".into(), capabilities: vec![], lease_duration }
}

fn claim_and_release(tx: &mut dyn Tx, request: &ClaimRequest, index: &ClaimIndex) -> Result<(), Error> {
    let Outcome::Done(Some(claimed)) = claim::claim(tx, request, index, 0)? else {
        return Err(Error::internal(format!("the claim {request:?} found no ready task: add more tasks to the run")));
    };
    let ending = Ending::new(EndStatus::Released);
    let caller = Caller::Holder(claimed.lease.token);
    task::end(tx, &EndTask { rpc: "ReleaseTask", task_id: claimed.task.id, caller, ending }).map(drop)
}

/// Measures the time of the conversions between payloads and JSON, and of the encoding of events for watchers.
fn measure_conversions(criterion: &mut Criterion) {
    let payload = Json::parse(EXAMPLE_PAYLOAD).unwrap();
    criterion.bench_function("payload to JSON", |bench| {
        bench.iter(|| serde_json::to_string(&Json(black_box(&payload))).unwrap());
    });
    criterion
        .bench_function("payload from JSON", |bench| bench.iter(|| Json::parse(black_box(EXAMPLE_PAYLOAD)).unwrap()));
    let event = v1::Event { source: "agent".into(), payload: Some(payload), ..Default::default() };
    let response = v1::SubscribeEventsResponse { message: Some(Sent::Event(event)) };
    criterion.bench_function("event encoded once", |bench| {
        bench.iter(|| EncodedResponse::from(black_box(response.clone())))
    });
    let encoded = EncodedResponse::from(response);
    criterion.bench_function("event sent to one more watcher", |bench| {
        let mut buffer = Vec::with_capacity(1_024);
        bench.iter(|| {
            buffer.clear();
            black_box(&encoded).clone().encode(&mut buffer).unwrap();
        });
    });
}

criterion_group!(benches, measure_appends, measure_claims, measure_conversions);
criterion_main!(benches);
