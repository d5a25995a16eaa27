//! Many watchers of large events that read nothing.

use runhub_client::v1::*;
use tokio::task::JoinSet;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::{channel, print_figures, soon};

const EVENTS: usize = 30;
const EVENT_BYTES: usize = 900 * 1024;
const UNREAD: usize = 300;
const PER_CONNECTION: usize = 50;
/// Number of the unread streams that the test reads at the end.
const READ_LATER: usize = 10;
/// Maximum memory that the unread streams may add to the server's memory. Without a limit, each stream would keep two
/// or three events, 600 MiB in all.
const UNREAD_MIB: u64 = 160;

#[tokio::test(flavor = "multi_thread")]
async fn unread_large_events_need_little_memory_and_arrive_later() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("db"), &["--max-buffered", "160"]);
    let client = server.connect().await;
    let run_id = new_run(&client).await.id;
    let request = SubscribeEventsRequest { run_id: run_id.clone(), ..unset() };
    let mut unread = Vec::new();
    let url = format!("http://{}", server.address);
    let mut shared = channel(&url).await;
    for number in 0..UNREAD {
        if number % PER_CONNECTION == 0 {
            shared = channel(&url).await;
        }
        let mut stub = event_service_client::EventServiceClient::new(shared.clone());
        unread.push(stub.subscribe_events(request.clone()).await.unwrap().into_inner());
    }
    let before = server.resident_mib();
    let payload = value(serde_json::json!("x".repeat(EVENT_BYTES)));
    for _ in 0..EVENTS {
        append(&client, &run_id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    let mut reader = client.subscribe(request);
    for seq in 1..=EVENTS as i64 + 1 {
        assert_eq!(next_event(&mut reader).await.seq, seq);
    }
    let added = server.most_resident_mib().saturating_sub(before);
    print_figures(&format!("unread events: {added} MiB"));
    assert!(added < UNREAD_MIB, "{UNREAD} unread streams need {added} MiB");
    let mut reading = JoinSet::new();
    for mut stream in unread.into_iter().step_by(UNREAD / READ_LATER) {
        reading.spawn(async move {
            let mut seqs = Vec::new();
            while seqs.len() <= EVENTS {
                let message = soon(stream.message()).await.unwrap().unwrap().message.unwrap();
                if let subscribe_events_response::Message::Event(event) = message {
                    seqs.push(event.seq);
                }
            }
            assert_eq!(seqs, (1..=EVENTS as i64 + 1).collect::<Vec<_>>());
        });
    }
    reading.join_all().await;
}

async fn next_event(reader: &mut runhub_client::Subscription) -> Event {
    loop {
        if let runhub_client::Update::Event(event) = soon(reader.next()).await.unwrap().unwrap() {
            return *event;
        }
    }
}
