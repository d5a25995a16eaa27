//! A thousand watchers of runs in which nothing happens.

use std::time::{Duration, Instant};

use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use tokio::task::JoinSet;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::{channel, show_figures};

const WATCHERS: usize = 1_000;
const PER_CONNECTION: usize = 50;
/// Of one that is due every second, on a machine with other things to do.
const BOOKMARK_PATIENCE: Duration = Duration::from_secs(5);
/// The design's figure for a thousand of them.
const MEMORY_MIB: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_watchers_get_their_bookmarks_and_cost_little() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("runhub.db"), &[]);
    let client = server.connect().await;
    let url = format!("http://{}", server.address);
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(new_run(&client).await.id);
    }
    let busy = new_run(&client).await.id;
    let mut channel_of_many = channel(&url).await;
    let (asked, mut watchers) = (Instant::now(), JoinSet::new());
    for at in 0..WATCHERS {
        if at % PER_CONNECTION == 0 {
            channel_of_many = channel(&url).await;
        }
        let request = SubscribeEventsRequest {
            // Some watch all runs, but nothing that happens there.
            run_id: if at % 10 == 0 { String::new() } else { runs[at % runs.len()].clone() },
            kinds: vec!["never".into()],
            bookmark_interval: seconds(1),
            ..unset()
        };
        let mut stub = EventServiceClient::new(channel_of_many.clone());
        watchers.spawn(async move {
            let mut stream = stub.subscribe_events(request).await.unwrap().into_inner();
            let mut positions = Vec::new();
            // So that each has had two intervals at least.
            while positions.len() < 4 {
                match stream.message().await.unwrap().unwrap().message.unwrap() {
                    Message::CaughtUp(_) => {}
                    Message::Bookmark(bookmark) => positions.push((bookmark.position, Instant::now())),
                    other => panic!("{other:?}"),
                }
            }
            (stream, positions)
        });
    }
    // What happens elsewhere moves their cursors.
    let mut last = 0;
    while !watchers.is_empty() && asked.elapsed() < Duration::from_secs(3) {
        last = append(&client, &busy, vec![event("elsewhere"); 10]).await.last_position;
    }
    let watched = watchers.join_all().await;
    let memory = server.resident_mib();
    show_figures(&format!("idle: {WATCHERS} watchers, {memory} MiB resident, {last} events elsewhere"));
    assert!(memory <= MEMORY_MIB, "{memory} MiB");
    for (_, positions) in &watched {
        let gaps = positions.windows(2).map(|pair| pair[1].1 - pair[0].1);
        assert!(gaps.max() < Some(BOOKMARK_PATIENCE), "a bookmark a second: {positions:?}");
        assert!(positions.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        assert!(positions.last().unwrap().0 > positions[0].0, "it moves on: {positions:?}");
    }
}
