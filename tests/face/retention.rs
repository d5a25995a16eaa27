//! `--keep-events-for` removes the oldest events, and every cursor that lost an event is refused.

use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason, Update};

use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::record::Watcher;
use crate::support::{TestServer, soon, until};

const HOUR: Duration = Duration::from_secs(3_600);

fn list_after(run_id: &str, after: i64) -> ListEventsRequest {
    ListEventsRequest { run_id: run_id.into(), after_position: Some(after), ..unset() }
}

fn watch_after(run_id: &str, after: i64) -> SubscribeEventsRequest {
    SubscribeEventsRequest { run_id: run_id.into(), after_position: Some(after), ..unset() }
}

/// Returns the newest events of a scope. Needs no cursor.
async fn kept(client: &Client, run_id: &str) -> Vec<Event> {
    client.list_events(ListEventsRequest { run_id: run_id.into(), ..unset() }).await.unwrap().events
}

/// Returns the oldest and the newest position that a POSITION_COMPACTED error names. Fails on any other result.
fn compacted<T: std::fmt::Debug>(result: Result<T, Error>) -> (i64, i64) {
    let Err(Error::Refused { reason: Reason::PositionCompacted, metadata, .. }) = result else { panic!("{result:?}") };
    let position = |name: &str| metadata[name].parse().unwrap();
    (position("oldest_position"), position("newest_position"))
}

/// Creates a quiet run with old events and a busy run with old and recent ones, and waits until retention has removed
/// the old events. Returns each run's id and the position of its last old event.
async fn aged(server: &TestServer) -> ((String, i64), (String, i64)) {
    let client = &server.client;
    let quiet = new_run(client).await.id;
    let busy = new_run(client).await.id;
    let old_of_quiet = append(client, &quiet, vec![event("old"); 3]).await.last_position;
    let old_of_busy = append(client, &busy, vec![event("old"); 1_000]).await.last_position;
    server.clock.advance(HOUR);
    append(client, &busy, vec![event("young"); 2]).await;
    // Retention runs once a minute.
    server.clock.advance(HOUR / 30);
    until(|| async { kept(client, "").await.len() == 2 }).await;
    ((quiet, old_of_quiet), (busy, old_of_busy))
}

#[tokio::test]
async fn events_are_removed_after_the_retention_time() {
    let server = TestServer::start_keeping(HOUR).await;
    let client = &server.client;
    let ((quiet, _), (busy, last_old)) = aged(&server).await;
    let young = kept(client, "").await;
    assert_eq!(young.iter().map(|event| event.seq).collect::<Vec<_>>(), [1_002, 1_003], "seq must continue");
    assert_eq!(young[0].position, last_old + 1);
    assert_eq!(kept(client, &busy).await, young);
    assert!(kept(client, &quiet).await.is_empty());
    let checkpoint = CreateCheckpointRequest { run_id: busy.clone(), status: RunStatus::Running.into(), ..unset() };
    let checkpoint = client.create_checkpoint(checkpoint).await.unwrap().checkpoint.unwrap();
    assert_eq!(checkpoint.position, young[1].position);
}

#[tokio::test]
async fn no_event_is_removed_without_the_flag() {
    use runhub_server::housekeeping::{PastTimes, RetentionTimes, clean_up};
    use runhub_server::store::Store;
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    append(&server.client, &run.id, vec![event("old"); 3]).await;
    let clock = server.clock.clone();
    let folder = server.stop().await;
    let mut past = PastTimes::new(&clock);
    clock.advance(100_000 * HOUR);
    let location = TestDatabase::in_folder(folder.path()).location();
    let store = Store::open_at(&location, std::sync::Arc::new(clock.clone()), Box::new(|_| {})).unwrap();
    let keep = RetentionTimes { requests_for: HOUR, events_for: None };
    past.record(&clock, keep);
    clean_up(&store, &past, keep).await.unwrap();
    store.close().await;
    let server = TestServer::start_in(folder, clock).await;
    assert_eq!(log(&server.client, &run.id).await.len(), 4);
}

#[tokio::test]
async fn cursor_is_refused_exactly_if_its_scope_lost_an_event() {
    let server = TestServer::start_keeping(HOUR).await;
    let client = &server.client;
    let ((quiet, old_of_quiet), (busy, old_of_busy)) = aged(&server).await;
    let newest = old_of_busy + 2;
    for (run_id, last_old, oldest) in [
        ("", old_of_busy, old_of_busy + 1),
        (&busy, old_of_busy, old_of_busy + 1),
        (&quiet, old_of_quiet, old_of_quiet + 1),
    ] {
        for lost in [0, 1, last_old - 1] {
            assert_eq!(compacted(client.list_events(list_after(run_id, lost)).await), (oldest, newest));
            let refused = server.watch(watch_after(run_id, lost)).next().await.unwrap();
            assert_eq!(compacted(refused), (oldest, newest));
        }
        for whole in [last_old, oldest - 1, newest] {
            client.list_events(list_after(run_id, whole)).await.unwrap();
            assert!(server.watch(watch_after(run_id, whole)).next().await.unwrap().is_ok());
        }
    }
    // Filters do not matter: the cursor is refused although no matching event was removed.
    let never = ListEventsRequest { kinds: vec!["never".into()], ..list_after("", 0) };
    assert_eq!(compacted(client.list_events(never).await).0, old_of_busy + 1);
}

#[tokio::test]
async fn from_beginning_starts_at_the_oldest_kept_event() {
    let server = TestServer::start_keeping(HOUR).await;
    let ((quiet, _), (_, last_old)) = aged(&server).await;
    let mut from_the_beginning = server.watch(unset());
    assert_eq!(from_the_beginning.next_event().await.position, last_old + 1);
    let mut of_quiet = server.watch(SubscribeEventsRequest { run_id: quiet, ..unset() });
    assert_eq!(of_quiet.next().await.unwrap().unwrap(), Update::CaughtUp(last_old + 2));
}

/// The watcher gets the events that were read before retention ran, then the error.
#[tokio::test]
async fn watcher_overtaken_by_retention_gets_position_compacted() {
    for request in [watch_after("", 0), unset()] {
        let server = TestServer::start_keeping(HOUR).await;
        let run = new_run(&server.client).await;
        let payload = value(serde_json::json!("x".repeat(500_000)));
        for _ in 0..30 {
            append(&server.client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
        }
        let mut behind = Watcher::new(&server.connect().await, server.db(), request);
        assert_eq!(behind.next_event().await.seq, 1);
        server.clock.advance(HOUR * 2);
        until(|| async { kept(&server.client, "").await.is_empty() }).await;
        let mut seq = 1;
        let error = loop {
            match soon(behind.next()).await.unwrap() {
                Ok(Update::Event(event)) => {
                    assert_eq!(event.seq, seq + 1, "no gap before the error");
                    seq = event.seq;
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(seq < 31, "the watcher must have been behind");
        assert_eq!(compacted::<()>(Err(error)), (32, 31), "no event is kept");
    }
}

/// Removed positions, among them the deletion of a run, are still known after a restart.
#[tokio::test]
async fn removed_positions_are_known_after_a_restart() {
    let server = TestServer::start_keeping(HOUR).await;
    let deleted = new_run(&server.client).await.id;
    set_status(&server.client, &deleted, RunStatus::Completed).await;
    server.client.delete_run(DeleteRunRequest { run_id: deleted, ..unset() }).await.unwrap();
    let ((quiet, old_of_quiet), (_, old_of_busy)) = aged(&server).await;
    let server = server.restart().await;
    let refused = async |run_id: &str, after| compacted(server.client.list_events(list_after(run_id, after)).await).0;
    assert_eq!(refused("", old_of_busy - 1).await, old_of_busy + 1);
    assert_eq!(refused(&quiet, 0).await, old_of_quiet + 1);
    server.client.list_events(list_after("", old_of_busy)).await.unwrap();
    append(&server.client, &quiet, vec![event("new")]).await;
    assert_eq!(kept(&server.client, &quiet).await[0].seq, 5, "seq must continue");
}

/// After the clock was set back, an event can be dated later than its successors. Retention keeps the successors as
/// long as that event.
#[tokio::test]
async fn retention_removes_only_a_prefix_of_the_log() {
    use crate::support::binary::Binary;
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &[]);
    let client = server.connect().await;
    let run = new_run(&client).await;
    append(&client, &run.id, vec![event("a"), event("b"), event("c")]).await;
    server.kill();
    TestDatabase::in_folder(folder.path()).execute(
        "UPDATE events SET create_time = create_time + 3600000000 WHERE kind = 'b';
        UPDATE events SET create_time = create_time - 3600000000 WHERE kind <> 'b';",
    );
    // A short time makes the server clean up often. On PostgreSQL, it must first take over from the killed server.
    let server = Binary::start_in(folder.path(), &["--keep-events-for", "5s"]);
    let client = server.connect().await;
    until(|| async { kept(&client, &run.id).await.len() == 2 }).await;
    assert_eq!(kept(&client, &run.id).await.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[tokio::test]
async fn retention_below_one_second_is_refused() {
    use crate::support::binary::run;
    let output = run(&["serve", "--keep-events-for", "999ms"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at least 1s"));
}
