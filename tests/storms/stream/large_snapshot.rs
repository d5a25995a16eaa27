//! Watchers of a run with 50,000 tasks that start with the run's snapshot.

use runhub_client::Update;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use tonic_types::StatusExt;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::channel;

const TASKS: usize = 50_000;
const TASKS_PER_CALL: usize = 1_000;
/// Number of watchers that stop after the first part of the snapshot.
const UNREAD: usize = 20;
/// Maximum memory that the unread snapshots may add to the server's memory.
const UNREAD_MIB: u64 = 60;
/// Size of the temporary files, in MiB: enough for two of the snapshots.
const SPOOL_MIB: &str = "80";

async fn run_with_tasks(server: &Binary) -> String {
    let client = server.connect().await;
    let run_id = new_run(&client).await.id;
    let long = TaskDraft { objective: "x".repeat(500), ..draft("task") };
    for _ in 0..TASKS / TASKS_PER_CALL {
        add_tasks(&client, &run_id, vec![long.clone(); TASKS_PER_CALL]).await;
    }
    run_id
}

fn from_snapshot(run_id: &str) -> SubscribeEventsRequest {
    SubscribeEventsRequest { run_id: run_id.into(), start: SubscribeStart::FromSnapshot.into(), ..unset() }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_with_50_000_tasks_is_watched_from_its_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &[]);
    let run_id = run_with_tasks(&server).await;
    let before = server.resident_mib();
    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        let mut stub =
            event_service_client::EventServiceClient::new(channel(&format!("http://{}", server.address)).await);
        let mut stream = stub.subscribe_events(from_snapshot(&run_id)).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        unread.push(stream);
    }
    let client = server.connect().await;
    let mut watcher = client.subscribe(from_snapshot(&run_id));
    let Update::Snapshot(snapshot) = watcher.next().await.unwrap().unwrap() else { panic!("a snapshot first") };
    assert_eq!(snapshot.pending_tasks.len(), TASKS);
    let added = server.resident_mib().saturating_sub(before);
    assert!(added < UNREAD_MIB, "{UNREAD} unread snapshots need {added} MiB");
    append(&client, &run_id, vec![event("later")]).await;
    let Update::CaughtUp(_) = watcher.next().await.unwrap().unwrap() else { panic!("then CaughtUp") };
    let Update::Event(later) = watcher.next().await.unwrap().unwrap() else { panic!("then the event") };
    assert_eq!(later.kind, "later");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_beyond_the_spool_are_refused_until_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &["--max-spool", SPOOL_MIB]);
    let run_id = run_with_tasks(&server).await;
    let mut stub = event_service_client::EventServiceClient::new(channel(&format!("http://{}", server.address)).await);
    let mut unread = Vec::new();
    let refused = loop {
        match stub.subscribe_events(from_snapshot(&run_id)).await {
            Ok(stream) => unread.push(stream.into_inner()),
            Err(status) => break status,
        }
        assert!(unread.len() < 10, "the spool has no limit");
    };
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "OVERLOADED");
    assert!(unread.len() >= 2, "{} snapshots", unread.len());
    let mut read = unread.remove(0);
    while let Some(Message::Snapshot(part)) = read.message().await.unwrap().unwrap().message {
        if part.position > 0 {
            break;
        }
    }
    stub.subscribe_events(from_snapshot(&run_id)).await.unwrap();
}
