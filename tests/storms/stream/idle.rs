//! A thousand watchers of runs without events.

use std::time::{Duration, Instant};

use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use tokio::task::JoinSet;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::oracle::{Part, PartEnd, assert_no_violations_in, position};
use crate::support::record::committed_log;
use crate::support::{channel, print_figures};

const WATCHERS: usize = 1_000;
const PER_CONNECTION: usize = 50;
/// Maximum time between two bookmarks that are due every second, on a busy machine.
const MAX_BOOKMARK_GAP: Duration = Duration::from_secs(5);
/// Maximum resident memory with a thousand watchers, from the design.
const MEMORY_MIB: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn thousand_idle_watchers_get_bookmarks_within_the_memory_limit() {
    let folder = tempfile::tempdir().unwrap();
    let db = TestDatabase::in_folder(folder.path());
    let server = Binary::start_in(folder.path(), &[]);
    let client = server.connect().await;
    let url = format!("http://{}", server.address);
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(new_run(&client).await.id);
    }
    let busy = new_run(&client).await.id;
    let mut channel_of_many = channel(&url).await;
    let asked = Instant::now();
    let mut watchers = JoinSet::new();
    for at in 0..WATCHERS {
        if at % PER_CONNECTION == 0 {
            channel_of_many = channel(&url).await;
        }
        let request = SubscribeEventsRequest {
            // Every tenth watches all runs, with a filter that matches nothing.
            run_id: if at % 10 == 0 { String::new() } else { runs[at % runs.len()].clone() },
            kinds: vec!["never".into()],
            bookmark_interval: seconds(1),
            ..unset()
        };
        let mut stub = EventServiceClient::new(channel_of_many.clone());
        watchers.spawn(async move {
            let mut stream = stub.subscribe_events(request.clone()).await.unwrap().into_inner();
            let mut messages = Vec::new();
            let mut times = Vec::new();
            // `caught_up` and four bookmarks.
            while messages.len() < 5 {
                messages.push(stream.message().await.unwrap().unwrap().message.unwrap());
                times.push(Instant::now());
            }
            let part =
                Part { request, newest_before: 0, removed_before: 0, messages, removed_after: 0, end: PartEnd::Cut };
            (stream, part, times)
        });
    }
    // Events of another run move their cursors.
    let mut last = 0;
    while !watchers.is_empty() && asked.elapsed() < Duration::from_secs(3) {
        last = append(&client, &busy, vec![event("elsewhere"); 10]).await.last_position;
    }
    let watched = watchers.join_all().await;
    let memory = server.resident_mib();
    print_figures(&format!("idle: {WATCHERS} watchers, {memory} MiB resident, {last} events elsewhere"));
    assert!(memory <= MEMORY_MIB, "{memory} MiB");
    let log = committed_log(&db);
    for (_, part, times) in &watched {
        assert!(part.messages[1..].iter().all(|message| matches!(message, Message::Bookmark(_))));
        assert!(part.last_position() > position(&part.messages[0]), "the cursor must move");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] < MAX_BOOKMARK_GAP), "a late bookmark: {times:?}");
    }
    assert_no_violations_in(&log, watched.iter().map(|(_, part, _)| std::slice::from_ref(part)));
}
