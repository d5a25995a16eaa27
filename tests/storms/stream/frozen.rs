//! Watchers whose process is stopped, and one that only does not read.

use std::process::Stdio;
use std::time::{Duration, Instant};

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
