//! Requests and responses for which the server has no memory.

use std::time::Duration;

use futures_util::future::join_all;
use runhub_bench::abuse::raw::{self, DEFAULT_WINDOW, RawCall, RawConnection};
use runhub_client::Reason;
use runhub_client::v1::*;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::until;

/// Longer than each time limit of the server.
const LONG: Duration = Duration::from_secs(60);
/// The smallest memory budget of a server, in MiB.
const MIN_BUFFERED: &str = "160";
/// Size of an unfinished request, in bytes.
const LARGE: usize = 3_900 * 1024;

const APPEND: &str = "/runhub.v1.EventService/AppendEvents";
const HEARTBEAT: &str = "/runhub.v1.TaskService/Heartbeat";

/// Starts a call and sends all of a large request but its last byte.
async fn send_unfinished(connection: &mut RawConnection, path: &str, length: usize) -> RawCall {
    let mut call = connection.start_call(path, None).await.unwrap();
    let mut bytes = raw::encode_prefix(length);
    bytes.resize(length + 4, 0);
    tokio::select! {
        // The server may refuse the request early.
        _ = call.request.send(bytes.into(), false) => {}
        () = tokio::time::sleep(LONG) => panic!("the server neither reads nor refuses the request"),
    }
    call
}

/// One connection uses at most an eighth of the memory for large AppendEvents requests, and 70 requests of 3.8 MiB need
/// more than 160 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_requests_beyond_the_memory_are_refused_and_other_calls_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &["--max-buffered", MIN_BUFFERED]);
    let client = server.connect().await;
    let run = new_run(&client).await;
    add_tasks(&client, &run.id, vec![draft("task")]).await;
    let claim = claim(&client, &run.id).await.unwrap();
    let mut one = RawConnection::connect(&server.address, DEFAULT_WINDOW).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..10 {
        calls.push(send_unfinished(&mut one, APPEND, LARGE).await);
    }
    assert_eq!(count_refused(&mut calls).await, 5, "an eighth of 160 MiB has room for five requests");
    let mut connections = vec![one];
    for _ in 0..60 {
        let mut connection = RawConnection::connect(&server.address, DEFAULT_WINDOW).await.unwrap();
        calls.push(send_unfinished(&mut connection, HEARTBEAT, LARGE).await);
        connections.push(connection);
    }
    assert!(count_refused(&mut calls).await > 10);
    assert_eq!(beat(&client, &claim).await.state(), LeaseState::Extended);
    get_run(&client, &run.id).await;
    append(&client, &run.id, vec![event("served")]).await;
    assert!(server.most_resident_mib() < 260, "{} MiB", server.most_resident_mib());
}

/// Sends unfinished requests of `bytes` bytes, on eight connections at once, until the memory that is not set aside has
/// no room for a further request.
async fn fill_memory(address: &str, bytes: usize) -> Vec<(RawConnection, Vec<RawCall>)> {
    let mut fillers = JoinSet::new();
    for _ in 0..8 {
        let address = address.to_owned();
        fillers.spawn(async move {
            let mut connection = RawConnection::connect(&address, DEFAULT_WINDOW).await.unwrap();
            let mut calls = Vec::new();
            for _ in 0..11 {
                calls.push(send_unfinished(&mut connection, APPEND, bytes).await);
            }
            (connection, calls)
        });
    }
    let mut held = fillers.join_all().await;
    loop {
        let mut connection = RawConnection::connect(address, DEFAULT_WINDOW).await.unwrap();
        let mut calls = vec![send_unfinished(&mut connection, APPEND, bytes).await];
        if count_refused(&mut calls).await > 0 {
            return held;
        }
        held.push((connection, calls));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_without_memory_is_dropped_and_sent_when_the_call_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &["--max-buffered", MIN_BUFFERED]);
    let client = server.connect().await;
    let run = new_run(&client).await;
    let acceptance_criteria = vec!["x".repeat(60_000); 5];
    add_task(&client, &run.id, TaskDraft { acceptance_criteria, ..draft("large") }).await;
    let held = (fill_memory(&server.address, LARGE).await, fill_memory(&server.address, 100 * 1024).await);
    let request = ClaimTaskRequest { request_id: "claim-once".to_owned(), ..claim_request(&run.id, "agent") };
    assert_eq!(reason(client.claim_task(request.clone()).await), Reason::ResponseDropped);
    // Small messages have memory that large messages can't use.
    let small = add_task(&client, &run.id, draft("small")).await;
    assert_eq!(abandon(&client, &small.id).await.status(), TaskStatus::Abandoned);
    drop(held);
    until(|| async { client.claim_task(request.clone()).await.is_ok() }).await;
    let claim = client.claim_task(request).await.unwrap().claim.unwrap();
    assert_eq!(beat(&client, &claim).await.state(), LeaseState::Extended);
    let claims = kinds(&client, &run.id).await.into_iter().filter(|kind| kind == "task_claimed").count();
    assert_eq!(claims, 1);
}

/// Removes the refused calls and returns their number. Waits for all calls at once, because the server ends an unfinished
/// request after some seconds.
async fn count_refused(calls: &mut Vec<RawCall>) -> usize {
    let before = calls.len();
    let waits = calls.drain(..).map(|mut call| async move {
        match timeout(Duration::from_millis(300), &mut call.response).await {
            Err(_) => Some(call),
            Ok(response) => {
                assert_eq!(response.unwrap().headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
                None
            }
        }
    });
    *calls = join_all(waits).await.into_iter().flatten().collect();
    before - calls.len()
}
