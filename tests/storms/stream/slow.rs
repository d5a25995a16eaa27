//! One watcher that never reads beside a hundred that do. It must not delay them, and must cost the server little
//! memory.

use std::time::Instant;

use runhub_client::Client;
use runhub_client::v1::*;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::record::Recorder;
use crate::support::{channel, print_figures};

const EVENTS: i64 = 200_000;
const WATCHERS: usize = 100;
const PER_CONNECTION: usize = 10;
const MEMORY_MIB: u64 = 64;

/// The fields of an event that show whether one is missing. Decoding whole events a hundred times would only measure
/// this test.
#[derive(Clone, PartialEq, prost::Message)]
struct Brief {
    #[prost(message, optional, tag = "2")]
    event: Option<BriefEvent>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BriefEvent {
    #[prost(int64, tag = "1")]
    position: i64,
    #[prost(int64, tag = "2")]
    seq: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn watcher_that_never_reads_delays_no_other_and_later_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let url = format!("http://{}", server.address);
    let run_id = new_run(&client).await.id;
    let request = SubscribeEventsRequest { run_id: run_id.clone(), ..unset() };
    let mut never_reads = subscribe(channel(&url).await, &request).await;
    let mut watchers = JoinSet::new();
    let mut shared = channel(&url).await;
    for at in 0..WATCHERS {
        if at % PER_CONNECTION == 0 {
            shared = channel(&url).await;
        }
        watchers.spawn(read(subscribe(shared.clone(), &request).await, 1, EVENTS));
    }
    let before = server.resident_mib();
    let begun = Instant::now();
    append_all(&client, &run_id).await;
    let written = begun.elapsed();
    watchers.join_all().await;
    let grown = server.most_resident_mib() - before;
    print_figures(&format!(
        "slow: {EVENTS} events written in {written:.1?}, at {WATCHERS} watchers after {:.1?}; {grown} MiB more than {before}",
        begun.elapsed()
    ));
    assert!(grown < MEMORY_MIB, "{grown} MiB");

    // Now the first watcher reads for a while, disconnects and resumes.
    let mut position = 0;
    for seq in 1..=1_000 {
        let event = next(&mut never_reads).await;
        assert_eq!(event.seq, seq);
        position = event.position;
    }
    drop(never_reads);
    let mut resumed = Recorder::new(&db, SubscribeEventsRequest { after_position: Some(position), ..request });
    let is_last =
        |message: &_| matches!(message, subscribe_events_response::Message::Event(last) if last.seq == EVENTS);
    assert_eq!(resumed.record(channel(&url).await, is_last).await.events().count() as i64, EVENTS - 1_000);
    resumed.check();
}

/// Appends the remaining events. The run's first event exists already.
async fn append_all(client: &Client, run_id: &str) {
    let mut left = EVENTS - 1;
    while left > 0 {
        let count = left.min(200);
        append(client, run_id, vec![event("x"); count as usize]).await;
        left -= count;
    }
}

async fn subscribe(channel: Channel, request: &SubscribeEventsRequest) -> Streaming<Brief> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = "/runhub.v1.EventService/SubscribeEvents".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<SubscribeEventsRequest, Brief>::default();
    grpc.server_streaming(tonic::Request::new(request.clone()), path, codec).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<Brief>) -> BriefEvent {
    loop {
        if let Some(event) = stream.message().await.unwrap().unwrap().event {
            return event;
        }
    }
}

async fn read(mut stream: Streaming<Brief>, first: i64, last: i64) {
    for seq in first..=last {
        assert_eq!(next(&mut stream).await.seq, seq);
    }
}
