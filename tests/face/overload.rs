//! More calls than can be served.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use runhub_client::repeat_for;
use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::*;
use runhub_server::domain::limits;
use runhub_server::store::Store;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::calls::*;
use crate::support::{TestServer, channel, soon, until};

/// Those that the server lets in.
const LET_IN: usize = limits::CALLS_IN_SERVICE;
const REFUSED: usize = 76;

/// Keeps the writer busy until it is told to go on.
async fn hold_the_writer(store: Store) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (go_on, wait) = mpsc::channel();
    let (entered, inside) = oneshot::channel();
    let (wait, entered) = (Mutex::new(wait), Mutex::new(Some(entered)));
    let held = tokio::spawn(async move {
        let body = move |_: &mut dyn runhub_server::store::Tx| {
            entered.lock().unwrap().take().map(|entered| entered.send(()));
            wait.lock().unwrap().recv().unwrap();
            Ok(())
        };
        store.transact(body).await.unwrap();
    });
    inside.await.unwrap();
    (go_on, held)
}

type Stub = EventServiceClient<Channel>;

async fn append(stub: Stub, run_id: String) -> Result<(), Status> {
    append_long(stub, run_id, 0).await
}

async fn append_long(mut stub: Stub, run_id: String, bytes: usize) -> Result<(), Status> {
    let events = vec![EventDraft { source: "s".into(), kind: "k".into(), message: "x".repeat(bytes), ..unset() }];
    stub.append_events(AppendEventsRequest { run_id, events, ..unset() }).await.map(drop)
}

/// As many appends as are let in.
async fn fill_up(server: &TestServer, run_id: &str) -> JoinSet<Result<(), Status>> {
    let mut let_in = JoinSet::new();
    for _ in 0..4 {
        let stub = EventServiceClient::new(channel(&server.url).await);
        (0..LET_IN / 4).for_each(|_| drop(let_in.spawn(append(stub.clone(), run_id.to_owned()))));
    }
    until(|| async { server.store().waiting() >= LET_IN }).await;
    let_in
}

async fn all_are_accepted(mut appends: JoinSet<Result<(), Status>>) {
    while let Some(accepted) = appends.join_next().await {
        accepted.unwrap().unwrap();
    }
}

/// What is too much is refused at once, with when to come back; signs of life and what ends work are not, and go first.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_what_it_can_serve_it_refuses_appends_at_once_and_takes_heartbeats_and_completions_first() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("one"), draft("another")]).await;
    let held = claim(&server.client, &run.id).await.unwrap();
    // So late a heartbeat is seen in the log.
    let late = claim_for(&server.client, &run.id, "agent", 40).await.unwrap();
    server.clock.advance(Duration::from_secs(40));
    until_logged(&server.client, &run.id, "lease_expired", 1).await;
    let (go_on, writer) = hold_the_writer(server.store()).await;
    let mut appends = JoinSet::new();
    for _ in 0..4 {
        let stub = EventServiceClient::new(channel(&server.url).await);
        (0..(LET_IN + REFUSED) / 4).for_each(|_| drop(appends.spawn(append(stub.clone(), run.id.clone()))));
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
        let (client, task_id) = (server.connect().await, held.task.unwrap().id);
        let request = CompleteTaskRequest { task_id, lease_token: Some(held.lease_token), ..unset() };
        async move { client.complete_task(request).await }
    });
    let beat = tokio::spawn({
        let client = server.connect().await;
        async move { beat(&client, &late).await }
    });
    until(|| async { server.store().waiting() >= LET_IN + 2 }).await;
    go_on.send(()).unwrap();
    writer.await.unwrap();
    complete.await.unwrap().unwrap();
    assert_eq!(beat.await.unwrap().state(), LeaseState::Extended);
    all_are_accepted(appends).await;
    let kinds = vec!["lease_resumed".into(), "task_completed".into(), "k".into()];
    let request = ListEventsRequest { run_id: run.id.clone(), kinds, after_position: Some(0), ..unset() };
    let events = server.client.list_events(request).await.unwrap().events;
    let mut first = [events[0].kind.as_str(), events[1].kind.as_str()];
    first.sort_unstable();
    assert_eq!(first, ["lease_resumed", "task_completed"], "they came last, and went first");
    append(EventServiceClient::new(channel(&server.url).await), run.id).await.unwrap();
}

/// So that not all come back at once; the first time a client would try again by itself is sooner.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_comes_back_when_it_was_told_to() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let (go_on, writer) = hold_the_writer(server.store()).await;
    let let_in = fill_up(&server, &run.id).await;
    let events = vec![EventDraft { source: "s".into(), kind: "late".into(), ..unset() }];
    let request = AppendEventsRequest { run_id: run.id.clone(), events, ..unset() };
    let mut tries = Vec::new();
    let late = repeat_for(Duration::from_secs(60), || {
        tries.push(Instant::now());
        if tries.len() == 2 {
            go_on.send(()).unwrap();
        }
        server.client.append_events(request.clone())
    });
    late.await.unwrap();
    assert!(tries[1] - tries[0] >= Duration::from_millis(200), "{:?}", tries[1] - tries[0]);
    writer.await.unwrap();
    all_are_accepted(let_in).await;
}

/// Under load those who have waited longest must not be those who are refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_has_waited_is_not_refused() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let waiting = tokio::spawn({
        let client = server.connect().await;
        let request = ClaimTaskRequest { run_id: run.id, agent_id: "a".into(), wait: seconds(20), ..unset() };
        async move { client.claim_task(request).await }
    });
    server.until_claims_wait(1).await;
    let (go_on, writer) = hold_the_writer(server.store()).await;
    let (store, mut line) = (server.store(), Vec::new());
    let write = || Box::pin(store.transact(|_| Ok(())));
    let mut last = write();
    while (&mut last).now_or_never().is_none() {
        line.push(std::mem::replace(&mut last, write()));
    }
    // Its time is over: it looks once more.
    server.clock.advance(Duration::from_secs(20));
    until(|| async { store.waiting() > line.len() || waiting.is_finished() }).await;
    go_on.send(()).unwrap();
    writer.await.unwrap();
    assert!(waiting.await.unwrap().unwrap().claim.is_none());
}

/// Large requests that are refused before they are read cost their connection nothing: what else it carries goes on.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_do_not_end_the_connection() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let (go_on, writer) = hold_the_writer(server.store()).await;
    let let_in = fill_up(&server, &run.id).await;
    let mut stub = EventServiceClient::new(channel(&server.url).await);
    let request = SubscribeEventsRequest { run_id: run.id.clone(), ..unset() };
    let mut stream = stub.subscribe_events(request).await.unwrap().into_inner();
    let mut refused = JoinSet::new();
    (0..2_000).for_each(|_| drop(refused.spawn(append_long(stub.clone(), run.id.clone(), 60 * 1024))));
    while let Some(answer) = soon(refused.join_next()).await {
        let status = answer.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
    go_on.send(()).unwrap();
    writer.await.unwrap();
    let mut seen = 0;
    while seen <= LET_IN {
        let message = soon(stream.message()).await.unwrap().unwrap().message.unwrap();
        seen += usize::from(matches!(message, subscribe_events_response::Message::Event(_)));
    }
    all_are_accepted(let_in).await;
}
