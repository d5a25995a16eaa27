//! The log of a cursor: each response that contains a cursor names the cursor's log, and a cursor of another log is
//! refused.

use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use runhub_client::{Error, Reason};
use tonic::{Code, Status};

use crate::support::calls::*;
use crate::support::{TestServer, channel};

async fn log_id_of(server: &TestServer) -> String {
    server.client.get_server_info(GetServerInfoRequest {}).await.unwrap().log_id
}

/// Returns the first message of a stream of its own, without the Rust client, which would resume the stream.
async fn first_message(server: &TestServer, request: SubscribeEventsRequest) -> Result<Message, Status> {
    let mut stub = EventServiceClient::new(channel(&server.url).await);
    let mut stream = stub.subscribe_events(request).await?.into_inner();
    Ok(stream.message().await?.unwrap().message.unwrap())
}

#[tokio::test]
async fn every_cursor_comes_with_the_log_id_of_the_server() {
    let server = TestServer::start().await;
    let client = &server.client;
    let log_id = log_id_of(&server).await;
    let run = new_run(client).await;

    let request = AppendEventsRequest { run_id: run.id.clone(), events: vec![event("e")], request_id: "one".into() };
    let first = client.append_events(request.clone()).await.unwrap();
    let repeated = client.append_events(request).await.unwrap();
    assert_eq!((&first, &first.log_id), (&repeated, &log_id));

    let newest = ListEventsRequest { run_id: run.id.clone(), ..unset() };
    let after = ListEventsRequest { after_position: Some(0), ..newest.clone() };
    for request in [newest, after] {
        assert_eq!(client.list_events(request).await.unwrap().log_id, log_id);
    }

    let request = GetRunSnapshotRequest { run_id: run.id.clone(), ..unset() };
    assert_eq!(client.get_run_snapshot(request).await.unwrap().snapshot.unwrap().log_id, log_id);
    let start = SubscribeStart::FromSnapshot.into();
    let request = SubscribeEventsRequest { run_id: run.id.clone(), start, ..unset() };
    let Message::Snapshot(snapshot) = first_message(&server, request).await.unwrap() else { panic!("a snapshot") };
    assert_eq!((snapshot.position, snapshot.log_id), (first.last_position, log_id.clone()));
    for request in [
        SubscribeEventsRequest { after_position: Some(first.last_position), ..unset() },
        SubscribeEventsRequest { start: SubscribeStart::FromNow.into(), ..unset() },
    ] {
        let Message::CaughtUp(caught_up) = first_message(&server, request).await.unwrap() else { panic!("no event") };
        assert_eq!((caught_up.position, caught_up.log_id), (first.last_position, log_id.clone()));
    }
}

#[tokio::test]
async fn cursor_is_accepted_with_its_own_log_id_and_without_one() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let log_id = log_id_of(&server).await;
    for log_id in [Some(log_id), None] {
        let list = ListEventsRequest { run_id: run.id.clone(), log_id: log_id.clone(), ..unset() };
        let list = ListEventsRequest { after_position: Some(0), ..list };
        assert_eq!(server.client.list_events(list).await.unwrap().events.len(), 1);
        let request = SubscribeEventsRequest { run_id: run.id.clone(), log_id, ..unset() };
        assert!(matches!(first_message(&server, request).await.unwrap(), Message::Event(_)));
    }
}

/// Returns the refusals of both RPCs for a cursor of the log `log_id`.
async fn refusals(server: &TestServer, log_id: &str, run_id: &str, position: i64) -> [Error; 2] {
    let (run_id, log_id, after_position) = (run_id.to_owned(), Some(log_id.to_owned()), Some(position));
    let list = ListEventsRequest {
        run_id: run_id.clone(),
        after_position,
        log_id: log_id.clone(),
        wait: seconds(60),
        ..unset()
    };
    let listed = server.client.list_events(list).await.unwrap_err();
    let subscribe = SubscribeEventsRequest { run_id, after_position, log_id, ..unset() };
    [listed, first_message(server, subscribe).await.unwrap_err().into()]
}

/// After a restore, the run of a watcher may not exist, and its cursor may be greater than every position. The watcher
/// must still learn that the log is another one.
#[tokio::test]
async fn cursor_of_another_log_is_refused_before_anything_else() {
    let server = TestServer::start().await;
    let actual = log_id_of(&server).await;
    let other = log_id_of(&TestServer::start().await).await;
    let run = new_run(&server.client).await;
    for (run_id, position) in [(run.id.as_str(), 0), ("", 0), ("", 1 << 40), ("no run", 0)] {
        for error in refusals(&server, &other, run_id, position).await {
            let Error::Refused { reason, code, message, metadata, .. } = error else { panic!("{error:?}") };
            assert_eq!((reason, code), (Reason::LogChanged, Code::FailedPrecondition));
            assert_eq!(metadata["log_id"], actual);
            assert!(message.contains(&other) && message.contains("read a snapshot"), "{message}");
        }
    }
}
