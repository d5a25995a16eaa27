//! Subscribing at the moment of an append, when a watcher could lose the event.

use std::time::Duration;

use runhub_client::Client;
use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::oracle::{Part, PartEnd, assert_no_violations_in};
use crate::support::random::Random;
use crate::support::record::committed_log;
use crate::support::{channel, print_figures, soon};

const CLIENTS: usize = 50;
/// On PostgreSQL, each append takes several times as long.
const APPENDS_PER_CLIENT: usize = if crate::ON_POSTGRES { 200 } else { 2_000 };

/// How often the event came before `caught_up`, after it, or not at all because FROM_NOW started after it.
#[derive(Debug, Default)]
struct Arrivals {
    stored: usize,
    live: usize,
    before: usize,
}

impl Arrivals {
    fn count(&mut self, part: &Part) {
        let caught_up = part.messages.iter().position(|message| matches!(message, Message::CaughtUp(_)));
        match (caught_up, part.events().count()) {
            (_, 0) => self.before += 1,
            (Some(0), _) => self.live += 1,
            _ => self.stored += 1,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watcher_that_subscribes_during_an_append_gets_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let db = TestDatabase::in_folder(folder.path());
    let server = Binary::start_in(folder.path(), &[]);
    let url = format!("http://{}", server.address);
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(race(server.connect().await, channel(&url).await, Random::new(seed as u64)));
    }
    let parts = clients.join_all().await.concat();
    let mut arrivals = Arrivals::default();
    for part in &parts {
        arrivals.count(part);
    }
    print_figures(&format!("subscribe race: {arrivals:?}"));
    assert_eq!(arrivals.stored + arrivals.live + arrivals.before, CLIENTS * APPENDS_PER_CLIENT);
    let least = CLIENTS * APPENDS_PER_CLIENT / 100;
    assert!(arrivals.stored > least && arrivals.live > least && arrivals.before > least, "{arrivals:?}");
    assert_no_violations_in(&committed_log(&db), parts.chunks(1));
}

async fn race(client: Client, channel: Channel, mut random: Random) -> Vec<Part> {
    let run_id = new_run(&client).await.id;
    let mut last = append(&client, &run_id, vec![event("first")]).await.last_position;
    let mut parts = Vec::new();
    for _ in 0..APPENDS_PER_CLIENT {
        let cursor = Some(last).filter(|_| random.percent(70));
        let request = SubscribeEventsRequest {
            run_id: run_id.clone(),
            after_position: cursor,
            start: SubscribeStart::FromNow.into(),
            // A bookmark would reveal an event that a lost wake-up left unsent, so it must not come.
            bookmark_interval: seconds(3_600),
            ..unset()
        };
        let early = random.below(400) as u64;
        let late = random.below(400) as u64;
        let appending = async {
            tokio::time::sleep(Duration::from_micros(early)).await;
            append(&client, &run_id, vec![event("x")]).await.last_position
        };
        let subscribing = async {
            tokio::time::sleep(Duration::from_micros(late)).await;
            EventServiceClient::new(channel.clone()).subscribe_events(request.clone()).await.unwrap().into_inner()
        };
        let (position, stream) = tokio::join!(appending, subscribing);
        let messages = soon(until_known(position, stream, cursor.is_some())).await;
        parts.push(Part {
            request,
            newest_before: last,
            removed_before: 0,
            messages,
            removed_after: 0,
            end: PartEnd::Cut,
        });
        last = position;
    }
    parts
}

/// Reads until the event has come, or until the stream, which has no cursor, is known to start after it.
async fn until_known(appended: i64, mut stream: Streaming<SubscribeEventsResponse>, has_cursor: bool) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        let message = stream.message().await.unwrap().unwrap().message.unwrap();
        let is_known = match &message {
            Message::CaughtUp(at) => at.position >= appended && !has_cursor,
            Message::Event(event) => event.position == appended,
            other => panic!("{other:?}"),
        };
        messages.push(message);
        if is_known {
            return messages;
        }
    }
}
