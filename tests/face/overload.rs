//! More calls than the server can serve at once.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use runhub_client::repeat_for;
use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::*;
use runhub_server::domain::limits;
use runhub_server::store::JobOptions;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::calls::*;
use crate::support::{TestServer, block_writer, channel, soon, until};

/// Number of calls that the server admits at once.
const ADMITTED: usize = limits::CALLS_IN_SERVICE;
const REFUSED: usize = 76;

type Stub = EventServiceClient<Channel>;

async fn append(stub: Stub, run_id: String) -> Result<(), Status> {
    append_long(stub, run_id, 0).await
}

async fn append_long(mut stub: Stub, run_id: String, bytes: usize) -> Result<(), Status> {
    let events = vec![EventDraft { source: "s".into(), kind: "k".into(), message: "x".repeat(bytes), ..unset() }];
    stub.append_events(AppendEventsRequest { run_id, events, ..unset() }).await.map(drop)
}

/// Sends as many appends as the server admits.
async fn fill_admission(server: &TestServer, run_id: &str) -> JoinSet<Result<(), Status>> {
    let mut admitted = JoinSet::new();
    for _ in 0..4 {
        let stub = EventServiceClient::new(channel(&server.url).await);
        for _ in 0..ADMITTED / 4 {
            admitted.spawn(append(stub.clone(), run_id.to_owned()));
        }
    }
    until(|| async { server.store().queued_calls() >= ADMITTED }).await;
    admitted
}

async fn assert_all_accepted(mut appends: JoinSet<Result<(), Status>>) {
    while let Some(accepted) = appends.join_next().await {
        accepted.unwrap().unwrap();
    }
}

/// Excess appends are refused at once, with the time to retry. Heartbeats and completions are exempt and go first.
#[tokio::test(flavor = "multi_thread")]
async fn overload_refuses_appends_and_serves_heartbeats_and_completions_first() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("one"), draft("another")]).await;
    let held = claim(&server.client, &run.id).await.unwrap();
    // A late heartbeat resumes its lease, which the log shows.
    let late = claim_for(&server.client, &run.id, "agent", 40).await.unwrap();
    server.clock.advance(Duration::from_secs(40));
    until_logged(&server.client, &run.id, "lease_expired", 1).await;
    let (release, writer) = block_writer(server.store(), JobOptions::default()).await;
    let mut appends = JoinSet::new();
    for _ in 0..4 {
        let stub = EventServiceClient::new(channel(&server.url).await);
        for _ in 0..(ADMITTED + REFUSED) / 4 {
            appends.spawn(append(stub.clone(), run.id.clone()));
        }
    }
    for _ in 0..REFUSED {
        let refused = soon(appends.join_next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
        let delay = details.retry_info().unwrap().retry_delay.unwrap();
        assert!((Duration::from_millis(200)..=Duration::from_secs(5)).contains(&delay), "{delay:?}");
    }
    let complete = tokio::spawn({
        let client = server.connect().await;
        let task_id = held.task.unwrap().id;
        let request = CompleteTaskRequest { task_id, lease_token: Some(held.lease_token), ..unset() };
        async move { client.complete_task(request).await }
    });
    let beat = tokio::spawn({
        let client = server.connect().await;
        async move { beat(&client, &late).await }
    });
    until(|| async { server.store().queued_calls() >= ADMITTED + 2 }).await;
    release.send(()).unwrap();
    writer.await.unwrap();
    complete.await.unwrap().unwrap();
    assert_eq!(beat.await.unwrap().state(), LeaseState::Extended);
    assert_all_accepted(appends).await;
    let kinds = vec!["lease_resumed".into(), "task_completed".into(), "k".into()];
    let request = ListEventsRequest { run_id: run.id.clone(), kinds, after_position: Some(0), ..unset() };
    let events = server.client.list_events(request).await.unwrap().events;
    let mut first = [events[0].kind.as_str(), events[1].kind.as_str()];
    first.sort_unstable();
    assert_eq!(first, ["lease_resumed", "task_completed"], "they were sent last and served first");
    append(EventServiceClient::new(channel(&server.url).await), run.id).await.unwrap();
}

/// The client waits for the delay of the RetryInfo, which is longer than the delay of its own first retry.
#[tokio::test(flavor = "multi_thread")]
async fn client_retries_after_the_delay_from_the_server() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let (release, writer) = block_writer(server.store(), JobOptions::default()).await;
    let admitted = fill_admission(&server, &run.id).await;
    let events = vec![EventDraft { source: "s".into(), kind: "late".into(), ..unset() }];
    let request = AppendEventsRequest { run_id: run.id.clone(), events, ..unset() };
    let mut tries = Vec::new();
    let late = repeat_for(Duration::from_secs(60), || {
        tries.push(Instant::now());
        if tries.len() == 2 {
            release.send(()).unwrap();
        }
        server.client.append_events(request.clone())
    });
    late.await.unwrap();
    assert!(tries[1] - tries[0] >= Duration::from_millis(200), "{:?}", tries[1] - tries[0]);
    writer.await.unwrap();
    assert_all_accepted(admitted).await;
}

/// Under load, the server must not refuse the callers that have waited longest.
// With one thread, a claim that waits has also queued its first try, so the write after `until_claims_wait` ends after
// that try. Otherwise the try could be part of the blocked group and would be neither queued nor finished.
#[tokio::test]
async fn waiting_claim_is_not_refused_under_overload() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let waiting = tokio::spawn({
        let client = server.connect().await;
        let request = ClaimTaskRequest { run_id: run.id, agent_id: "a".into(), wait: seconds(20), ..unset() };
        async move { client.claim_task(request).await }
    });
    server.until_claims_wait(1).await;
    let store = server.store();
    store.transact(|_| Ok(())).await.unwrap();
    let (release, writer) = block_writer(server.store(), JobOptions::default()).await;
    let mut queued = Vec::new();
    let write = || Box::pin(store.transact(|_| Ok(())));
    let mut last = write();
    while (&mut last).now_or_never().is_none() {
        queued.push(std::mem::replace(&mut last, write()));
    }
    // The wait is over, so the claim reads once more.
    server.clock.advance(Duration::from_secs(20));
    until(|| async { store.queued_calls() > queued.len() || waiting.is_finished() }).await;
    release.send(()).unwrap();
    writer.await.unwrap();
    assert!(waiting.await.unwrap().unwrap().claim.is_none());
}

/// Large requests that are refused before they are read must not use up the connection's window for its other calls.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_do_not_end_the_connection() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let (release, writer) = block_writer(server.store(), JobOptions::default()).await;
    let admitted = fill_admission(&server, &run.id).await;
    let mut stub = EventServiceClient::new(channel(&server.url).await);
    let request = SubscribeEventsRequest { run_id: run.id.clone(), ..unset() };
    let mut stream = stub.subscribe_events(request).await.unwrap().into_inner();
    let mut refused = JoinSet::new();
    for _ in 0..2_000 {
        refused.spawn(append_long(stub.clone(), run.id.clone(), 60 * 1024));
    }
    while let Some(answer) = soon(refused.join_next()).await {
        let status = answer.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
    release.send(()).unwrap();
    writer.await.unwrap();
    let mut seen = 0;
    while seen <= ADMITTED {
        let message = soon(stream.message()).await.unwrap().unwrap().message.unwrap();
        seen += usize::from(matches!(message, subscribe_events_response::Message::Event(_)));
    }
    assert_all_accepted(admitted).await;
}
