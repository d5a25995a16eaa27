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
use crate::support::random::Random;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_comes_at_the_moment_of_an_append_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("runhub.db"), &[]);
    let url = format!("http://{}", server.address);
    let mut lanes = JoinSet::new();
    for seed in 0..LANES {
        lanes.spawn(lane(server.connect().await, channel(&url).await, Random::new(seed as u64)));
    }
    let came = lanes.join_all().await.into_iter().fold(Came::default(), |sum, came| Came {
        stored: sum.stored + came.stored,
        live: sum.live + came.live,
        before: sum.before + came.before,
    });
    show_figures(&format!("hand-over: {came:?}"));
    assert_eq!(came.stored + came.live + came.before, LANES * EACH);
    assert!(came.stored > 1_000 && came.live > 1_000 && came.before > 1_000, "{came:?}");
}

async fn lane(client: Client, channel: Channel, mut random: Random) -> Came {
    let run_id = new_run(&client).await.id;
    let mut last = append(&client, &run_id, vec![event("first")]).await.last_position;
    let mut came = Came::default();
    for _ in 0..EACH {
        let cursor = Some(last).filter(|_| random.percent(70));
        let request = SubscribeEventsRequest {
            run_id: run_id.clone(),
            after_position: cursor,
            start: SubscribeStart::FromNow.into(),
            ..unset()
        };
        let (early, late) = (random.below(400) as u64, random.below(400) as u64);
        let appending = async {
            tokio::time::sleep(Duration::from_micros(early)).await;
            append(&client, &run_id, vec![event("x")]).await.last_position
        };
        let subscribing = async {
            tokio::time::sleep(Duration::from_micros(late)).await;
            EventServiceClient::new(channel.clone()).subscribe_events(request).await.unwrap().into_inner()
        };
        let (position, stream) = tokio::join!(appending, subscribing);
        soon(expect(position, stream, cursor.is_some(), &mut came)).await;
        last = position;
    }
    came
}

/// The first event must be this one, unless the stream has no cursor and begins after it.
async fn expect(appended: i64, mut stream: Streaming<SubscribeEventsResponse>, has_cursor: bool, came: &mut Came) {
    let mut caught_up = false;
    loop {
        match stream.message().await.unwrap().unwrap().message.unwrap() {
            Message::CaughtUp(at) if at.position >= appended => {
                assert!(!has_cursor, "caught_up beyond an event that was not sent");
                came.before += 1;
                return;
            }
            Message::CaughtUp(_) => caught_up = true,
            Message::Event(event) => {
                assert_eq!(event.position, appended);
                *(if caught_up { &mut came.live } else { &mut came.stored }) += 1;
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}
