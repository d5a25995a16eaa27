//! Watchers whose process is stopped, and watchers that do not read.

use std::process::Stdio;
use std::time::{Duration, Instant};

use prost::Message as _;
use runhub_bench::abuse::raw::{RawCall, RawConnection};
use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;

use crate::support::binary::{Binary, runhub, signal};
use crate::support::calls::*;
use crate::support::{channel, print_figures, soon, until};

/// Longer than the server waits for the answer to a keepalive ping.
const DETECTION_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn frozen_watcher_is_disconnected_and_unread_stream_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("runhub.db"), &[]);
    let client = server.connect().await;
    let run_id = new_run(&client).await.id;
    let mut stub = EventServiceClient::new(channel(&format!("http://{}", server.address)).await);
    let request = SubscribeEventsRequest { run_id: run_id.clone(), ..unset() };
    let mut does_not_read = stub.subscribe_events(request).await.unwrap().into_inner();
    let without = server.open_sockets();
    let url = format!("http://{}", server.address);
    let mut frozen = Vec::new();
    for _ in 0..5 {
        frozen.push(runhub(&["watch", &run_id, "--server", &url]).stdout(Stdio::null()).spawn().unwrap());
    }
    // Each watcher has a connection for calls and a connection for its stream.
    until(|| async { server.open_sockets() == without + 2 * frozen.len() }).await;
    for watcher in &frozen {
        signal("STOP", watcher.id());
    }
    let begun = Instant::now();
    while server.open_sockets() > without {
        assert!(begun.elapsed() < DETECTION_TIMEOUT, "{} sockets, {without} before", server.open_sockets());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    print_figures(&format!("frozen: disconnected after {:.1?}", begun.elapsed()));
    for mut watcher in frozen {
        watcher.kill().unwrap();
        watcher.wait().unwrap();
    }

    let last = append(&client, &run_id, vec![event("later")]).await.last_position;
    while let Some(response) = soon(does_not_read.message()).await.unwrap() {
        if matches!(response.message.unwrap(), Message::Event(event) if event.position == last) {
            return;
        }
    }
    panic!("the unread stream ended");
}

/// The window of the client in this test, which is larger than the buffers of a socket.
const WINDOW: u32 = 64 * 1024 * 1024;
const EVENTS: usize = 40;

/// The server can't send the keepalive pings of HTTP/2 on a socket whose buffers are full.
#[tokio::test(flavor = "multi_thread")]
async fn client_that_reads_nothing_from_its_socket_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("runhub.db"), &[]);
    let client = server.connect().await;
    let run_id = new_run(&client).await.id;
    let without = server.open_sockets();
    let frozen = subscribe_and_freeze(server.address.clone(), run_id.clone()).await;
    let payload = value(serde_json::json!("x".repeat(900 * 1024)));
    for _ in 0..EVENTS {
        append(&client, &run_id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    assert_eq!(server.open_sockets(), without + 1);
    let begun = Instant::now();
    while server.open_sockets() > without {
        assert!(begun.elapsed() < DETECTION_TIMEOUT, "the connection stays open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    print_figures(&format!("unread socket: disconnected after {:.1?}", begun.elapsed()));
    append(&client, &run_id, vec![event("served")]).await;
    std::thread::spawn(move || drop(frozen)).join().unwrap();
}

/// Subscribes to a run in a runtime that does not run afterwards, so nobody reads from the socket.
async fn subscribe_and_freeze(address: String, run_id: String) -> (tokio::runtime::Runtime, RawConnection, RawCall) {
    let subscribe = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let request = SubscribeEventsRequest { run_id, ..unset() }.encode_to_vec();
        let (connection, call) = runtime.block_on(async {
            let mut connection = RawConnection::connect(&address, WINDOW).await.unwrap();
            let call = connection.call("/runhub.v1.EventService/SubscribeEvents", &request).await.unwrap();
            // Let the connection's task send the call.
            tokio::time::sleep(Duration::from_millis(500)).await;
            (connection, call)
        });
        (runtime, connection, call)
    };
    tokio::task::spawn_blocking(subscribe).await.unwrap()
}
