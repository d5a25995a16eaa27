//! Subscribing from a snapshot: first the run's state, then every event after it.

use prost::Message as _;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use runhub_client::{Client, Json, Reason, Update};

use crate::support::TestServer;
use crate::support::calls::*;

fn from_snapshot(run_id: &str) -> SubscribeEventsRequest {
    SubscribeEventsRequest { run_id: run_id.into(), start: SubscribeStart::FromSnapshot.into(), ..unset() }
}

async fn snapshot(client: &Client, run_id: &str) -> RunSnapshot {
    let request = GetRunSnapshotRequest { run_id: run_id.into(), ..unset() };
    client.get_run_snapshot(request).await.unwrap().snapshot.unwrap()
}

#[tokio::test]
async fn complete_snapshot_comes_first_whatever_the_filter() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![draft("a"), draft("b")]).await;
    claim(client, &run.id).await.unwrap();
    let kinds = vec!["wanted".into()];
    let mut watcher = server.watch(SubscribeEventsRequest { kinds, ..from_snapshot(&run.id) });
    let expected = snapshot(client, &run.id).await;
    assert_eq!(watcher.next().await.unwrap().unwrap(), Update::Snapshot(Box::new(expected.clone())));
    assert_eq!(watcher.next().await.unwrap().unwrap(), Update::CaughtUp(expected.position));
    assert_eq!(watcher.position(), Some(expected.position));
    append(client, &run.id, vec![event("other"), event("wanted")]).await;
    assert_eq!(watcher.next_event().await.kind, "wanted");
}

/// A client that stops after the snapshot resumes right behind it, whatever was appended meanwhile.
#[tokio::test]
async fn cursor_is_the_snapshot_position_once_the_snapshot_is_returned() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let mut watcher = client.subscribe(from_snapshot(&run.id));
    let Update::Snapshot(snapshot) = watcher.next().await.unwrap().unwrap() else { panic!("a snapshot first") };
    append(client, &run.id, vec![event("behind it")]).await;
    assert_eq!(watcher.position(), Some(snapshot.position));
    let log_id = Some(snapshot.log_id.clone());
    assert_eq!(watcher.log_id(), log_id.as_deref());
    let rest = SubscribeEventsRequest { run_id: run.id, after_position: watcher.position(), log_id, ..unset() };
    let mut rest = client.subscribe(rest);
    let Update::Event(first) = rest.next().await.unwrap().unwrap() else { panic!("an event first") };
    assert_eq!(first.kind, "behind it");
    let elsewhere = from_snapshot(&snapshot.run.unwrap().id);
    let mut elsewhere = client.subscribe(SubscribeEventsRequest { log_id: Some("another".into()), ..elsewhere });
    assert_eq!(reason(elsewhere.next().await.unwrap()), Reason::LogChanged);
    assert!(elsewhere.next().await.is_none());
}

/// No event is missing between the snapshot and the first event, whenever the subscription starts.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_gap_between_the_snapshot_and_the_first_event() {
    const EVENTS: usize = 400;
    let server = TestServer::start().await;
    let writer = server.connect().await;
    let run = new_run(&server.client).await;
    let run_id = run.id.clone();
    let writing = tokio::spawn(async move {
        for _ in 0..EVENTS {
            append(&writer, &run_id, vec![event("x")]).await;
        }
    });
    let mut begun_within = 0;
    while !writing.is_finished() {
        let mut watcher = server.watch(from_snapshot(&run.id));
        let Update::Snapshot(snapshot) = watcher.next().await.unwrap().unwrap() else { panic!("a snapshot first") };
        let in_snapshot = snapshot.recent_events.last().unwrap();
        assert_eq!(in_snapshot.position, snapshot.position, "the only run has the newest event");
        if in_snapshot.seq > EVENTS as i64 {
            break;
        }
        assert_eq!(watcher.next_event().await.seq, in_snapshot.seq + 1);
        begun_within += 1;
    }
    writing.await.unwrap();
    assert!(begun_within > 5, "{begun_within}");
}

#[tokio::test]
async fn large_snapshot_is_split_into_parts_within_client_limits() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let objective = "x".repeat(60 * 1024);
    for _ in 0..4 {
        let drafts = (0..25).map(|_| TaskDraft { objective: objective.clone(), ..draft("t") }).collect();
        add_tasks(client, &run.id, drafts).await;
    }
    let whole = snapshot(client, &run.id).await;
    // Every client accepts messages of up to 4 MiB, which is the default limit.
    let channel = tonic::transport::Channel::from_shared(server.url.clone()).unwrap().connect().await.unwrap();
    let mut stub = event_service_client::EventServiceClient::new(channel);
    let mut stream = stub.subscribe_events(from_snapshot(&run.id)).await.unwrap().into_inner();
    let mut parts = 0;
    let mut joined = RunSnapshot::default();
    while joined.position == 0 {
        let response = stream.message().await.unwrap().unwrap();
        assert!(response.encoded_len() <= 192 * 1024);
        let Some(Message::Snapshot(part)) = response.message else { panic!("{response:?}") };
        assert_eq!(part.run.is_some(), parts == 0);
        parts += 1;
        joined.append(part);
    }
    assert!(parts > 40, "{parts} parts");
    assert!(joined == whole, "the parts differ from the snapshot");
    let mut watcher = server.watch(from_snapshot(&run.id));
    assert_eq!(watcher.next().await.unwrap().unwrap(), Update::Snapshot(Box::new(whole)));
}

/// The limit of 16 MiB holds for GetRunSnapshot only.
#[tokio::test]
async fn snapshot_over_16_mib_is_streamed() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let objective = "x".repeat(60 * 1024);
    for _ in 0..6 {
        let drafts = (0..50).map(|_| TaskDraft { objective: objective.clone(), ..draft("t") }).collect();
        add_tasks(client, &run.id, drafts).await;
    }
    let refused = client.get_run_snapshot(GetRunSnapshotRequest { run_id: run.id.clone(), ..unset() }).await;
    assert_eq!(reason(refused), Reason::SnapshotTooLarge);
    let mut watcher = server.watch(from_snapshot(&run.id));
    let Update::Snapshot(whole) = watcher.next().await.unwrap().unwrap() else { panic!("a snapshot first") };
    assert_eq!(whole.pending_tasks.len(), 300);
    let one = GetRunSnapshotRequest { run_id: run.id.clone(), task_limit: 1, ..unset() };
    let one = client.get_run_snapshot(one).await.unwrap().snapshot.unwrap();
    assert_eq!(one.pending_tasks, whole.pending_tasks[299..]);
}

/// Returns a run with entries in every list of its snapshot: five approvals, artifacts, attempts and events, and five
/// tasks in each list of tasks.
async fn run_with_everything(client: &Client) -> Run {
    let run = new_run(client).await;
    for number in 0..5 {
        let drafts = ["pending", "completed", "blocked", "abandoned"].map(draft).to_vec();
        let tasks = add_tasks(client, &run.id, drafts).await;
        let request = CompleteTaskRequest { task_id: tasks[1].id.clone(), ..unset() };
        client.complete_task(request).await.unwrap();
        client.block_task(BlockTaskRequest { task_id: tasks[2].id.clone(), ..unset() }).await.unwrap();
        client.abandon_task(AbandonTaskRequest { task_id: tasks[3].id.clone(), ..unset() }).await.unwrap();
        let title = number.to_string();
        let request = RequestApprovalRequest { run_id: run.id.clone(), requested_by: "s".into(), title, ..unset() };
        client.request_approval(request).await.unwrap();
        let artifact = CreateArtifactRequest {
            run_id: run.id.clone(),
            role: Some("r".into()),
            kind: "k".into(),
            path: number.to_string(),
            ..unset()
        };
        client.create_artifact(artifact).await.unwrap();
    }
    run
}

/// Returns the newest `count` entries of a list, or all entries if `count` is 0.
fn newest<T: Clone>(list: &[T], count: usize) -> Vec<T> {
    list[if count == 0 { 0 } else { list.len().saturating_sub(count) }..].to_vec()
}

#[tokio::test]
async fn limits_keep_the_newest_entries_of_every_list() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = run_with_everything(client).await;
    let whole = snapshot(client, &run.id).await;
    assert_eq!((whole.pending_tasks.len(), whole.completed_tasks.len(), whole.blocked_tasks.len()), (5, 5, 10));
    assert_eq!((whole.approvals.len(), whole.artifacts.len()), (5, 5));
    for count in [1, 2, 3, 5, 10, 11] {
        let limit = i32::try_from(count).unwrap();
        let request = SubscribeEventsRequest {
            event_limit: limit,
            attempt_limit: limit,
            task_limit: limit,
            approval_limit: limit,
            artifact_limit: limit,
            ..from_snapshot(&run.id)
        };
        let Update::Snapshot(limited) = server.watch(request).next().await.unwrap().unwrap() else { panic!() };
        let expected = RunSnapshot {
            pending_tasks: newest(&whole.pending_tasks, count),
            in_progress_tasks: newest(&whole.in_progress_tasks, count),
            completed_tasks: newest(&whole.completed_tasks, count),
            blocked_tasks: newest(&whole.blocked_tasks, count),
            recent_attempts: newest(&whole.recent_attempts, count),
            recent_events: newest(&whole.recent_events, count),
            approvals: newest(&whole.approvals, count),
            artifacts: newest(&whole.artifacts, count),
            ..whole.clone()
        };
        assert_eq!(*limited, expected, "limit {count}");
    }
    let negative = SubscribeEventsRequest { approval_limit: -1, ..from_snapshot(&run.id) };
    assert_eq!(reason(server.watch(negative).next().await.unwrap()), Reason::InvalidField);
}

/// Large events do not make the snapshot of one task large.
#[tokio::test]
async fn recent_events_have_at_most_1_mib() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(client).await;
    let payload = Json::parse(&format!("{:?}", "x".repeat(600 * 1024))).unwrap();
    let large = EventDraft { payload: Some(payload), ..event("large") };
    for _ in 0..30 {
        append(client, &run.id, vec![large.clone()]).await;
    }
    let snapshot = snapshot(client, &run.id).await;
    assert_eq!(snapshot.recent_events.len(), 1);
    append(client, &run.id, vec![event("small"), event("small")]).await;
    let snapshot = self::snapshot(client, &run.id).await;
    assert_eq!(snapshot.recent_events.len(), 3);
}

/// A watcher that stops after the first part keeps no read transaction open, and gets the rest later.
#[tokio::test(flavor = "multi_thread")]
async fn unread_snapshot_is_complete_whenever_the_watcher_reads_it() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let objective = "x".repeat(60 * 1024);
    for _ in 0..2 {
        let drafts = (0..50).map(|_| TaskDraft { objective: objective.clone(), ..draft("t") }).collect();
        add_tasks(client, &run.id, drafts).await;
    }
    let whole = snapshot(client, &run.id).await;
    let channel = tonic::transport::Channel::from_shared(server.url.clone()).unwrap().connect().await.unwrap();
    let mut stub = event_service_client::EventServiceClient::new(channel);
    let mut stream = stub.subscribe_events(from_snapshot(&run.id)).await.unwrap().into_inner();
    let Some(Message::Snapshot(mut joined)) = stream.message().await.unwrap().unwrap().message else { panic!() };
    let request = ReplacePendingTasksRequest { run_id: run.id.clone(), ..unset() };
    client.replace_pending_tasks(request).await.unwrap();
    while joined.position == 0 {
        let Some(Message::Snapshot(part)) = stream.message().await.unwrap().unwrap().message else { panic!() };
        joined.append(part);
    }
    assert!(joined == whole, "the snapshot is the state before the change");
    let Some(Message::Event(next)) = stream.message().await.unwrap().unwrap().message else { panic!() };
    assert!(next.position > joined.position);
}

#[tokio::test]
async fn no_snapshot_is_sent_for_a_cursor() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = SubscribeEventsRequest { after_position: Some(0), ..from_snapshot(&run.id) };
    assert!(matches!(server.watch(request).next().await, Some(Ok(Update::Event(_)))));
    let of_all = SubscribeEventsRequest { after_position: Some(0), ..from_snapshot("") };
    assert!(matches!(server.watch(of_all).next().await, Some(Ok(Update::Event(_)))));
}

/// The stream of an ended run consists of its snapshot and its end.
#[tokio::test]
async fn ended_run_streams_its_snapshot_and_its_end() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    set_status(&server.client, &run.id, RunStatus::Failed).await;
    let mut watcher = server.watch(from_snapshot(&run.id));
    let Update::Snapshot(snapshot) = watcher.next().await.unwrap().unwrap() else { panic!("a snapshot first") };
    assert_eq!(watcher.next().await.unwrap().unwrap(), Update::CaughtUp(snapshot.position));
    assert_eq!(watcher.next().await.unwrap().unwrap(), Update::End(EndReason::RunEnded, snapshot.position));
    assert!(watcher.next().await.is_none());
}
