//! ListEvents with `wait`: the same cursor by long poll.

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
async fn an_empty_answer_is_held_until_there_is_an_event() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, other) = (new_run(client).await, new_run(client).await);
    let position = newest(&server).await;
    let of_run = poll(&server, after(&run.id, position));
    let of_all = poll(&server, after("", position));
    server.until_somebody_listens().await;
    let elsewhere = append(client, &other.id, vec![event("elsewhere")]).await.last_position;
    let answer = soon(of_all).await.unwrap().unwrap();
    assert_eq!((answer.events[0].kind.as_str(), answer.next_position), ("elsewhere", elsewhere));
    let here = append(client, &run.id, vec![event("here"), event("here")]).await.last_position;
    let answer = soon(of_run).await.unwrap().unwrap();
    assert_eq!((answer.events.len(), answer.next_position), (2, here));
}

/// The cursor moves on though nothing matched: what was looked at in vain is not looked at again.
#[tokio::test]
async fn what_is_filtered_out_does_not_end_the_wait_but_moves_the_cursor() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = ListEventsRequest { kinds: vec!["wanted".into()], ..after(&run.id, newest(&server).await) };
    let call = poll(&server, request.clone());
    server.until_somebody_listens().await;
    let last = append(&server.client, &run.id, vec![event("other"); 3]).await.last_position;
    until(|| async {
        server.clock.advance(Duration::from_secs(1));
        call.is_finished()
    })
    .await;
    let answer = call.await.unwrap().unwrap();
    assert_eq!((answer.events.len(), answer.next_position), (0, last));

    let call = poll(&server, request);
    server.until_somebody_listens().await;
    append(&server.client, &run.id, vec![event("other"), event("wanted"), event("other")]).await;
    assert_eq!(soon(call).await.unwrap().unwrap().events[0].kind, "wanted");
}

#[tokio::test]
async fn what_can_have_no_answer_is_not_held() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let position = newest(&server).await;
    let closed = ListEventsRequest { before_position: Some(position + 1), ..after(&run.id, position) };
    assert!(soon(poll(&server, closed)).await.unwrap().unwrap().events.is_empty());
    let no_cursor = ListEventsRequest { run_id: run.id.clone(), kinds: vec!["never".into()], ..unset() };
    assert!(soon(poll(&server, no_cursor)).await.unwrap().unwrap().events.is_empty());
    let found = soon(poll(&server, after(&run.id, 0))).await.unwrap().unwrap();
    assert_eq!(found.events.len(), 1, "what is there is not waited for");
}

/// A range that is not closed yet is waited for, and its end is kept.
#[tokio::test]
async fn a_range_that_is_still_open_is_waited_for() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let position = newest(&server).await;
    let request = ListEventsRequest {
        before_position: Some(position + 3),
        kinds: vec!["wanted".into()],
        ..after(&run.id, position)
    };
    let call = poll(&server, request);
    server.until_somebody_listens().await;
    append(&server.client, &run.id, vec![event("other"); 5]).await;
    let answer = soon(call).await.unwrap().unwrap();
    assert_eq!((answer.events.len(), answer.next_position), (0, position + 2), "nothing more can come below it");
}

#[tokio::test]
async fn draining_ends_the_wait() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = poll(&server, after(&run.id, newest(&server).await));
    server.until_somebody_listens().await;
    server.stop().await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::Draining);
}

/// A caller that can't hold a stream has the whole log all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_long_polls_has_the_whole_log() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let (writer, run_id) = (server.connect().await, run.id.clone());
    let writing = tokio::spawn(async move {
        for _ in 0..300 {
            append(&writer, &run_id, vec![event("x")]).await;
        }
    });
    let (mut seqs, mut position) = (Vec::new(), 0);
    while seqs.len() < 301 {
        let page =
            client.list_events(ListEventsRequest { wait: seconds(60), ..after(&run.id, position) }).await.unwrap();
        position = page.next_position;
        seqs.extend(page.events.iter().map(|event| event.seq));
    }
    assert_eq!(seqs, (1..=301).collect::<Vec<_>>());
    writing.await.unwrap();
}
