//! Clients that occupy the server: incomplete and idle connections, incomplete requests, endless frames, and responses
//! that nobody reads. How the server treats them does not depend on the database.

use std::time::{Duration, Instant};

use prost::Message;
use runhub_bench::abuse::raw::{self, DEFAULT_WINDOW, RawCall, RawConnection};
use runhub_client::v1::*;
use runhub_server::domain::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::{TestServer, until};

/// Longer than each time limit of the server.
const LONG: Duration = Duration::from_secs(60);

const APPEND: &str = "/runhub.v1.EventService/AppendEvents";

/// The outcome of a call in the headers of its response.
async fn grpc_status(call: RawCall) -> String {
    let response = timeout(LONG, call.response).await.unwrap().unwrap();
    response.headers().get("grpc-status").map_or("none".to_owned(), |status| status.to_str().unwrap().to_owned())
}

/// If a call took a permit before its request arrives, the 520 calls of this test would take all 512 permits.
#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_request_take_no_permit_and_end() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let mut connection = RawConnection::connect(&server.address(), DEFAULT_WINDOW).await.unwrap();
    let start = Instant::now();
    let mut calls = Vec::new();
    for _ in 0..limits::CALLS_IN_SERVICE + 8 {
        calls.push(connection.start_call(APPEND, None).await.unwrap());
    }
    append(&server.client, &run.id, vec![event("served")]).await;
    for call in calls {
        assert_eq!(grpc_status(call).await, "4", "DEADLINE_EXCEEDED");
    }
    assert!(start.elapsed() >= limits::REQUEST_TIME);
    append(&server.client, &run.id, vec![event("served")]).await;
}

#[tokio::test]
async fn deadline_of_the_caller_ends_a_waiting_call() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let mut connection = RawConnection::connect(&server.address(), DEFAULT_WINDOW).await.unwrap();
    let request = ClaimTaskRequest { wait: seconds(200), ..claim_request(&run.id, "agent") };
    let mut call = connection.start_call("/runhub.v1.TaskService/ClaimTask", Some("200m")).await.unwrap();
    let message = request.encode_to_vec();
    let mut bytes = raw::encode_prefix(message.len());
    bytes.extend(message);
    call.request.send(bytes.into(), true).await.unwrap();
    assert_eq!(grpc_status(call).await, "4", "DEADLINE_EXCEEDED");
    server.until_claims_wait(0).await;
}

/// Waits until the server closes a connection, and returns the time since the connection was opened.
async fn closing_time(address: &str, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    // The server may also reset the connection, because it has not read all bytes.
    let _ = timeout(LONG, socket.read_to_end(&mut Vec::new())).await.expect("the connection stays open");
    start.elapsed()
}

#[tokio::test]
async fn incomplete_connections_and_frames_are_closed() {
    let server = TestServer::start().await;
    let half_frame = [raw::PREFACE, &raw::SETTINGS, &raw::PING[..12]].concat();
    // HEADERS without the flag END_HEADERS.
    let half_headers = [raw::PREFACE, &raw::SETTINGS, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x83]].concat();
    let address = server.address();
    let times = tokio::join!(
        closing_time(&address, &[]),
        closing_time(&address, &raw::PREFACE[..10]),
        closing_time(&address, raw::PREFACE),
        closing_time(&address, &half_frame),
        closing_time(&address, &half_headers),
    );
    for time in <[Duration; 5]>::from(times) {
        assert!((5..20).contains(&time.as_secs()), "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_pings_and_settings_close_their_connection() {
    let server = TestServer::start().await;
    let address = server.address();
    for frame in [raw::PING.as_slice(), &raw::SETTINGS] {
        timeout(LONG, raw::flood(&address, frame, || ())).await.expect("the connection stays open").unwrap_err();
    }
    new_run(&server.client).await;
}

/// Returns whether the server closes the connection soon. An open connection stays silent.
async fn is_closed(socket: &mut TcpStream) -> bool {
    timeout(Duration::from_millis(500), socket.read(&mut [0])).await.is_ok()
}

/// Returns a connection with an open call that the server has received.
async fn connect_with_call(address: &str) -> (RawConnection, RawCall) {
    let mut connection = RawConnection::connect(address, DEFAULT_WINDOW).await.unwrap();
    let open = connection.start_call(APPEND, None).await.unwrap();
    // The server receives the calls of a connection in order.
    let later = connection.call("/runhub.v1.ServerService/GetServerInfo", &[]).await.unwrap();
    later.response.await.unwrap();
    (connection, open)
}

#[tokio::test]
async fn new_connection_replaces_a_connection_without_an_open_call() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("db"), &["--max-connections", "3"]);
    let _first = connect_with_call(&server.address).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(&server.address).await.unwrap());
    }
    let client = server.connect().await;
    new_run(&client).await;
    assert!(is_closed(&mut silent[0]).await, "the oldest connection without a call");
    let _second = connect_with_call(&server.address).await;
    assert!(is_closed(&mut silent[1]).await, "the other connection without a call");
    // The connection of `client` has no open call.
    let third = connect_with_call(&server.address).await;
    assert!(is_closed(&mut TcpStream::connect(&server.address).await.unwrap()).await, "every connection has a call");
    drop(third);
    until(|| async { !is_closed(&mut TcpStream::connect(&server.address).await.unwrap()).await }).await;
}

/// A health check is not a call of the API, but its request has the same limits.
#[tokio::test]
async fn incomplete_health_check_ends_after_the_time_of_a_request() {
    let server = TestServer::start().await;
    let mut connection = RawConnection::connect(&server.address(), DEFAULT_WINDOW).await.unwrap();
    let call = connection.start_call("/grpc.health.v1.Health/Check", None).await.unwrap();
    assert_eq!(grpc_status(call).await, "4", "DEADLINE_EXCEEDED");
}

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_reflection_are_limited_and_end_when_idle() {
    let server = TestServer::start().await;
    let mut connection = RawConnection::connect(&server.address(), DEFAULT_WINDOW).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..9 {
        streams.push(connection.start_call(REFLECTION, None).await.unwrap());
    }
    let mut refused = 0;
    for stream in streams {
        let response = timeout(LONG, stream.response).await.unwrap().unwrap();
        if response.headers().contains_key("grpc-status") {
            assert_eq!(response.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
            refused += 1;
            continue;
        }
        let mut body = response.into_body();
        assert!(timeout(LONG, body.data()).await.expect("the stream stays open").is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    }
    assert_eq!(refused, 1, "8 streams of one connection at most");
    let again = connection.start_call(REFLECTION, None).await.unwrap();
    assert_eq!(grpc_status(again).await, "none", "a new stream is served");
}

/// Makes a call with a window of `window` bytes and reads nothing of the response. Returns the time until the server
/// resets the call.
async fn reset_time(address: &str, window: u32, path: &str, request: impl Message) -> Duration {
    let mut connection = RawConnection::connect(address, window).await.unwrap();
    let call = connection.call(path, &request.encode_to_vec()).await.unwrap();
    let start = Instant::now();
    let mut body = call.response.await.unwrap().into_body();
    // Without `release_capacity`, the server can't send more than the window.
    while let Some(bytes) = timeout(LONG, body.data()).await.expect("the call stays open") {
        if bytes.is_err() {
            return start.elapsed();
        }
    }
    panic!("the response arrived completely");
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_responses_are_reset_and_streams_are_not() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let drafts = vec![TaskDraft { objective: "x".repeat(60_000), ..draft("large") }; 10];
    add_tasks(&server.client, &run.id, drafts).await;
    let address = server.address();
    let snapshot = GetRunSnapshotRequest { run_id: run.id.clone(), ..unset() };
    let subscription =
        SubscribeEventsRequest { run_id: run.id.clone(), start: SubscribeStart::FromSnapshot.into(), ..unset() };
    let stream = async {
        let mut connection = RawConnection::connect(&address, DEFAULT_WINDOW).await.unwrap();
        let path = "/runhub.v1.EventService/SubscribeEvents";
        let call = connection.call(path, &subscription.encode_to_vec()).await.unwrap();
        let mut body = call.response.await.unwrap().into_body();
        let unread = async { while body.data().await.is_some_and(|bytes| bytes.is_ok()) {} };
        assert!(timeout(Duration::from_secs(40), unread).await.is_err(), "the stream ended");
    };
    let get_snapshot = "/runhub.v1.RunService/GetRunSnapshot";
    let get_info = "/runhub.v1.ServerService/GetServerInfo";
    let (large, small, tiny, ()) = tokio::join!(
        reset_time(&address, DEFAULT_WINDOW, get_snapshot, snapshot),
        reset_time(&address, 100, get_info, GetServerInfoRequest {}),
        reset_time(&address, 1, get_info, GetServerInfoRequest {}),
        stream,
    );
    for time in [large, small, tiny] {
        assert!((30..40).contains(&time.as_secs()), "{large:?}, {small:?}, {tiny:?}");
    }
}

#[tokio::test]
async fn http1_request_is_refused_with_an_explanation() {
    let server = TestServer::start().await;
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(LONG, socket.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 505 ") && text.contains("use a gRPC client"), "{text}");
}
