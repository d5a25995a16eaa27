//! ListEvents with `wait`: long polling with the same cursor as a stream.

use std::time::Duration;

use runhub_client::Reason;
use runhub_client::v1::*;
use tokio::task::JoinHandle;

use crate::support::calls::*;
use crate::support::{TestServer, soon, until};

type Call = JoinHandle<Result<ListEventsResponse, runhub_client::Error>>;

fn poll(server: &TestServer, request: ListEventsRequest) -> Call {
    let client = server.client.clone();
    tokio::spawn(async move { client.list_events(ListEventsRequest { wait: seconds(60), ..request }).await })
}

fn after(run_id: &str, position: i64) -> ListEventsRequest {
    ListEventsRequest { run_id: run_id.into(), after_position: Some(position), ..unset() }
}

async fn newest(server: &TestServer) -> i64 {
    log(&server.client, "").await.last().unwrap().position
}

#[tokio::test]
async fn empty_list_is_held_until_an_event_is_appended() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(client).await;
    let other = new_run(client).await;
    let position = newest(&server).await;
    let of_run = poll(&server, after(&run.id, position));
    let of_all = poll(&server, after("", position));
    server.until_reader_waits().await;
    let elsewhere = append(client, &other.id, vec![event("elsewhere")]).await.last_position;
    let answer = soon(of_all).await.unwrap().unwrap();
    assert_eq!((answer.events[0].kind.as_str(), answer.next_position), ("elsewhere", elsewhere));
    let here = append(client, &run.id, vec![event("here"), event("here")]).await.last_position;
    let answer = soon(of_run).await.unwrap().unwrap();
    assert_eq!((answer.events.len(), answer.next_position), (2, here));
}

/// The cursor moves past events that did not match, so that the next call does not read them again.
#[tokio::test]
async fn filtered_events_move_the_cursor_without_ending_the_wait() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = ListEventsRequest { kinds: vec!["wanted".into()], ..after(&run.id, newest(&server).await) };
    let call = poll(&server, request.clone());
    server.until_reader_waits().await;
    let last = append(&server.client, &run.id, vec![event("other"); 3]).await.last_position;
    until(|| async {
        server.clock.advance(Duration::from_secs(1));
        call.is_finished()
    })
    .await;
    let answer = call.await.unwrap().unwrap();
    assert_eq!((answer.events.len(), answer.next_position), (0, last));

    let call = poll(&server, request);
    server.until_reader_waits().await;
    append(&server.client, &run.id, vec![event("other"), event("wanted"), event("other")]).await;
    assert_eq!(soon(call).await.unwrap().unwrap().events[0].kind, "wanted");
}

#[tokio::test]
async fn list_without_cursor_or_with_closed_range_is_answered_at_once() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let position = newest(&server).await;
    let closed = ListEventsRequest { before_position: Some(position + 1), ..after(&run.id, position) };
    assert!(soon(poll(&server, closed)).await.unwrap().unwrap().events.is_empty());
    let no_cursor = ListEventsRequest { run_id: run.id.clone(), kinds: vec!["never".into()], ..unset() };
    assert!(soon(poll(&server, no_cursor)).await.unwrap().unwrap().events.is_empty());
    let found = soon(poll(&server, after(&run.id, 0))).await.unwrap().unwrap();
    assert_eq!(found.events.len(), 1, "stored events must be returned at once");
}

/// A call waits while its range can still grow, and ends when the range is closed.
#[tokio::test]
async fn list_waits_while_its_range_is_open() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let position = newest(&server).await;
    let request = ListEventsRequest {
        before_position: Some(position + 3),
        kinds: vec!["wanted".into()],
        ..after(&run.id, position)
    };
    let call = poll(&server, request);
    server.until_reader_waits().await;
    append(&server.client, &run.id, vec![event("other"); 5]).await;
    let answer = soon(call).await.unwrap().unwrap();
    assert_eq!(
        (answer.events.len(), answer.next_position),
        (0, position + 2),
        "no event below before_position follows"
    );
}

#[tokio::test]
async fn draining_ends_a_waiting_list() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = poll(&server, after(&run.id, newest(&server).await));
    server.until_reader_waits().await;
    server.stop().await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::Draining);
}

/// A caller that can't keep a stream open still reads the whole log.
#[tokio::test(flavor = "multi_thread")]
async fn long_poll_loop_reads_the_whole_log() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let writer = server.connect().await;
    let run_id = run.id.clone();
    let writing = tokio::spawn(async move {
        for _ in 0..300 {
            append(&writer, &run_id, vec![event("x")]).await;
        }
    });
    let mut seqs = Vec::new();
    let mut position = 0;
    while seqs.len() < 301 {
        let page =
            client.list_events(ListEventsRequest { wait: seconds(60), ..after(&run.id, position) }).await.unwrap();
        position = page.next_position;
        seqs.extend(page.events.iter().map(|event| event.seq));
    }
    assert_eq!(seqs, (1..=301).collect::<Vec<_>>());
    writing.await.unwrap();
}
