//! Where others lost events: a watcher that comes at the very moment of an append.

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
use crate::support::oracle::{Part, PartEnd, assert_all_kept};
use crate::support::random::Random;
use crate::support::record::whole_log;
use crate::support::{channel, show_figures, soon};

const LANES: usize = 50;
const EACH: usize = 2_000;

/// How the event came: before `caught_up`, after it, or not at all because it was before `FROM_NOW`.
#[derive(Debug, Default)]
struct Came {
    stored: usize,
    live: usize,
    before: usize,
}

impl Came {
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
async fn a_watcher_that_comes_at_the_moment_of_an_append_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    let url = format!("http://{}", server.address);
    let mut lanes = JoinSet::new();
    for seed in 0..LANES {
        lanes.spawn(lane(server.connect().await, channel(&url).await, Random::new(seed as u64)));
    }
    let parts = lanes.join_all().await.concat();
    let mut came = Came::default();
    parts.iter().for_each(|part| came.count(part));
    show_figures(&format!("hand-over: {came:?}"));
    assert_eq!(came.stored + came.live + came.before, LANES * EACH);
    assert!(came.stored > 1_000 && came.live > 1_000 && came.before > 1_000, "{came:?}");
    assert_all_kept(&whole_log(&db), parts.chunks(1));
}

async fn lane(client: Client, channel: Channel, mut random: Random) -> Vec<Part> {
    let run_id = new_run(&client).await.id;
    let mut last = append(&client, &run_id, vec![event("first")]).await.last_position;
    let mut parts = Vec::new();
    for _ in 0..EACH {
        let cursor = Some(last).filter(|_| random.percent(70));
        let request = SubscribeEventsRequest {
            run_id: run_id.clone(),
            after_position: cursor,
            start: SubscribeStart::FromNow.into(),
            // A bookmark would find what a lost wake-up has left lying.
            bookmark_interval: seconds(3_600),
            ..unset()
        };
        let (early, late) = (random.below(400) as u64, random.below(400) as u64);
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

/// Until the event has come, or it is known that it will not: the stream has no cursor and begins after it.
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
