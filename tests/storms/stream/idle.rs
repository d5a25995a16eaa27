//! A thousand watchers of runs in which nothing happens.

use std::time::{Duration, Instant};

use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use tokio::task::JoinSet;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::oracle::{Part, PartEnd, assert_all_kept, position};
use crate::support::record::whole_log;
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
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
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
            let mut stream = stub.subscribe_events(request.clone()).await.unwrap().into_inner();
            let (mut messages, mut times) = (Vec::new(), Vec::new());
            // `caught_up`, and bookmarks of some intervals.
            while messages.len() < 5 {
                messages.push(stream.message().await.unwrap().unwrap().message.unwrap());
                times.push(Instant::now());
            }
            let part =
                Part { request, newest_before: 0, removed_before: 0, messages, removed_after: 0, end: PartEnd::Cut };
            (stream, part, times)
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
    let log = whole_log(&db);
    for (_, part, times) in &watched {
        assert!(part.messages[1..].iter().all(|message| matches!(message, Message::Bookmark(_))));
        assert!(part.last_position() > position(&part.messages[0]), "it moves on");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] < BOOKMARK_PATIENCE), "a bookmark a second: {times:?}");
    }
    assert_all_kept(&log, watched.iter().map(|(_, part, _)| std::slice::from_ref(part)));
}
