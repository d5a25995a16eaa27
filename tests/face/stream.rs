//! Subscriptions: catch-up, then live, with a cursor in every message. Every watcher here is a `Watcher`, which hands
//! what it received to the oracle when it is dropped.

use runhub_client::v1::*;
use runhub_client::{Reason, Update};

use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::record::Watcher;
use crate::support::{TestServer, channel};

fn subscribe(run_id: &str) -> SubscribeEventsRequest {
    SubscribeEventsRequest { run_id: run_id.into(), ..unset() }
}

#[tokio::test]
async fn stored_events_then_caught_up_then_live_events_are_sent() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let last = append(&server.client, &run.id, vec![event("a"), event("b")]).await.last_position;
    let mut watcher = server.watch(subscribe(&run.id));
    let (kinds, update) = watcher.read_events().await;
    assert_eq!((kinds, update), (vec!["run_created".into(), "a".into(), "b".into()], Update::CaughtUp(last)));
    let live = append(&server.client, &run.id, vec![event("live")]).await.last_position;
    assert_eq!(watcher.next_event().await.position, live);
    assert_eq!(watcher.position(), Some(live));
}

#[tokio::test]
async fn from_now_sends_a_cursor_at_once_and_only_later_events() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let last = append(&server.client, &run.id, vec![event("before")]).await.last_position;
    let start = SubscribeStart::FromNow.into();
    let mut watcher = server.watch(SubscribeEventsRequest { start, ..subscribe(&run.id) });
    assert_eq!(watcher.next().await.unwrap().unwrap(), Update::CaughtUp(last));
    append(&server.client, &run.id, vec![event("after")]).await;
    assert_eq!(watcher.next_event().await.kind, "after");
}

#[tokio::test]
async fn cursor_overrides_the_start_and_zero_is_a_cursor() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let start = SubscribeStart::FromNow.into();
    let request = SubscribeEventsRequest { start, after_position: Some(0), ..subscribe(&run.id) };
    assert_eq!(server.watch(request).next_event().await.kind, "run_created");
}

#[tokio::test]
async fn all_runs_form_one_stream_and_filters_are_exact() {
    let server = TestServer::start().await;
    let client = &server.client;
    let server = &server;
    let runs = [new_run(client).await, new_run(client).await];
    let task = add_task(client, &runs[0].id, draft("t")).await;
    append(client, &runs[0].id, vec![EventDraft { task_id: Some(task.id.clone()), ..event("note_a") }]).await;
    let last = append(client, &runs[1].id, vec![event("note_b"), event("other")]).await.last_position;
    let seen = |request: SubscribeEventsRequest| async move {
        let (kinds, update) = server.watch(request).read_events().await;
        assert_eq!(update, Update::CaughtUp(last), "caught_up covers filtered events");
        kinds
    };
    let all = ["run_created", "run_created", "tasks_added", "note_a", "note_b", "other"];
    assert_eq!(seen(subscribe("")).await, all);
    let kinds = vec!["note_*".into()];
    assert_eq!(seen(SubscribeEventsRequest { kinds, ..subscribe("") }).await, ["note_a", "note_b"]);
    let sources = vec!["nobody".into()];
    assert_eq!(seen(SubscribeEventsRequest { sources, ..subscribe("") }).await, Vec::<String>::new());
    let task_id = Some(task.id);
    assert_eq!(seen(SubscribeEventsRequest { task_id, ..subscribe("") }).await, ["note_a"]);
}

#[tokio::test]
async fn idle_stream_gets_bookmarks_if_all_events_are_filtered_out() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = SubscribeEventsRequest {
        kinds: vec!["never".into()],
        bookmark_interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..subscribe(&run.id)
    };
    let mut watcher = server.watch(request);
    let Update::CaughtUp(first) = watcher.next().await.unwrap().unwrap() else { panic!("caught up first") };
    let last = append(&server.client, &run.id, vec![event("other")]).await.last_position;
    loop {
        let Update::Bookmark(position) = watcher.next().await.unwrap().unwrap() else { panic!("only bookmarks") };
        assert!(position == first || position == last);
        if position == last {
            return;
        }
    }
}

#[tokio::test]
async fn stream_of_an_ended_run_ends_after_its_last_event() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let mut live = server.watch(subscribe(&run.id));
    live.read_events().await;
    set_status(&server.client, &run.id, RunStatus::Completed).await;
    let (kinds, end) = live.read_events().await;
    assert_eq!(kinds, ["run_updated"]);
    let Update::End(EndReason::RunEnded, position) = end else { panic!("{end:?}") };
    assert!(live.next().await.is_none());

    // An event appended after the end is in the log. Subscribing from the end position returns it.
    append(&server.client, &run.id, vec![event("late")]).await;
    let mut again = server.watch(SubscribeEventsRequest { after_position: Some(position), ..subscribe(&run.id) });
    let (kinds, _) = again.read_events().await;
    assert_eq!(kinds, ["late"]);
    assert!(matches!(again.next().await, Some(Ok(Update::End(EndReason::RunEnded, _)))));
    assert!(again.next().await.is_none());
}

/// More than one page lies behind the cursor, counted in events and in bytes.
#[tokio::test]
async fn catch_up_reads_several_pages() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    for _ in 0..3 {
        append(&server.client, &run.id, vec![event("many"); 1_000]).await;
    }
    let payload = value(serde_json::json!("x".repeat(200_000)));
    append(&server.client, &run.id, vec![EventDraft { payload, ..event("large") }; 5]).await;
    let (kinds, _) = server.watch(subscribe(&run.id)).read_events().await;
    assert_eq!(kinds.len(), 3_006);
    assert_eq!(kinds.iter().filter(|kind| *kind == "large").count(), 5);
}

/// A cursor means nothing in another database, so the subscription ends instead of returning wrong events.
#[tokio::test]
async fn subscription_ends_when_the_log_id_changes() {
    use crate::support::binary::Binary;
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/sock", folder.path().display());
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    for folder in [&one, &other] {
        std::fs::create_dir(folder).unwrap();
    }
    let server = Binary::start_in_on(&socket, &one, &[]);
    let mut watcher = Watcher::new(&server.connect().await, TestDatabase::in_folder(&one), subscribe(""));
    assert!(matches!(watcher.next().await, Some(Ok(Update::CaughtUp(0)))));
    server.kill();
    let _other = Binary::start_in_on(&socket, &other, &[]);
    assert_eq!(reason(watcher.next().await.unwrap()), Reason::LogChanged);
    assert!(watcher.next().await.is_none());
}

/// A subscription resumes after a restart without a gap or a duplicate.
#[tokio::test]
async fn subscription_survives_a_restart() {
    use crate::support::binary::Binary;
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/sock", folder.path().display());
    let mut server = Binary::start_in_on(&socket, folder.path(), &[]);
    let run = new_run(&server.connect().await).await;
    let mut watcher = Watcher::new(&server.connect().await, TestDatabase::in_folder(folder.path()), subscribe(&run.id));
    assert_eq!(watcher.next_event().await.seq, 1);
    for (seq, crash) in [(2, false), (4, true), (6, false)] {
        append(&server.connect().await, &run.id, vec![event("x"), event("y")]).await;
        assert_eq!(watcher.next_event().await.seq, seq);
        if crash {
            server.kill();
        } else {
            server.terminate();
            assert!(server.wait().await);
        }
        server = Binary::start_in_on(&socket, folder.path(), &[]);
        assert_eq!(watcher.next_event().await.seq, seq + 1);
    }
}

/// A refusal is the answer to the call itself, not the end of a stream.
#[tokio::test]
async fn refusal_is_returned_before_the_stream_starts() {
    use runhub_client::v1::event_service_client::EventServiceClient;
    let server = TestServer::start().await;
    let mut stub = EventServiceClient::new(channel(&server.url).await);
    let bad = [
        subscribe("nothing"),
        SubscribeEventsRequest { after_position: Some(i64::MAX), ..subscribe("") },
        SubscribeEventsRequest { start: SubscribeStart::FromSnapshot.into(), ..subscribe("") },
    ];
    for request in bad {
        assert!(stub.subscribe_events(request).await.is_err());
    }
}
