//! The event log: appending and listing.

use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

#[tokio::test]
async fn seq_counts_per_run_and_position_per_server() {
    let server = TestServer::start().await;
    let client = &server.client;
    let a = new_run(client).await;
    let b = new_run(client).await;
    for _ in 0..3 {
        append(client, &a.id, vec![event("x"), event("y")]).await;
        append(client, &b.id, vec![event("z")]).await;
    }
    for run in [&a, &b] {
        let log = log(client, &run.id).await;
        let seqs: Vec<_> = log.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=log.len() as i64).collect::<Vec<_>>());
        assert!(log.windows(2).all(|pair| pair[0].position < pair[1].position));
    }
    let all = log(client, "").await;
    assert_eq!(all.len(), 11);
    assert!(all.windows(2).all(|pair| pair[0].position < pair[1].position));
}

#[tokio::test]
async fn append_is_all_or_nothing() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let events = vec![event("good"), EventDraft { task_id: Some("nope".into()), ..event("bad") }];
    let request = AppendEventsRequest { run_id: run.id.clone(), events, ..unset() };
    assert_eq!(reason(server.client.append_events(request).await), runhub_client::Reason::TaskNotFound);
    assert_eq!(append(&server.client, &run.id, vec![event("next"); 1_000]).await.first_seq, 2);
}

async fn list(server: &TestServer, request: ListEventsRequest) -> (Vec<String>, i64) {
    let listed = server.client.list_events(request).await.unwrap();
    (listed.events.into_iter().map(|event| event.kind).collect(), listed.next_position)
}

#[tokio::test]
async fn list_returns_the_newest_events_or_the_oldest_after_the_cursor() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let last = append(&server.client, &run.id, (1..=9).map(|at| event(&at.to_string())).collect()).await.last_position;
    let first = last - 9;
    let request = || ListEventsRequest { run_id: run.id.clone(), limit: 2, ..unset() };
    assert_eq!(list(&server, request()).await, (vec!["8".into(), "9".into()], last));
    let after = ListEventsRequest { after_position: Some(first), ..request() };
    assert_eq!(list(&server, after).await, (vec!["1".into(), "2".into()], first + 2));
    let from_zero = ListEventsRequest { after_position: Some(0), ..request() };
    assert_eq!(list(&server, from_zero).await.0, ["run_created", "1"]);
    let before = ListEventsRequest { before_position: Some(first + 4), ..request() };
    assert_eq!(list(&server, before).await.0, ["2", "3"]);
    let between =
        ListEventsRequest { after_position: Some(first + 6), before_position: Some(first + 8), limit: 9, ..request() };
    assert_eq!(list(&server, between).await, (vec!["7".into()], first + 7));
    let at_the_end = ListEventsRequest { after_position: Some(last), ..request() };
    assert_eq!(list(&server, at_the_end).await, (vec![], last));
}

/// `next_position` covers every event that was read, matching or not, so a filter that matches nothing still moves the
/// cursor.
#[tokio::test]
async fn filtered_list_moves_the_cursor_past_skipped_events() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    append(client, &run.id, vec![EventDraft { task_id: Some(task.id.clone()), ..event("note") }]).await;
    let last = append(client, &run.id, vec![event("other"); 5]).await.last_position;
    let request = || ListEventsRequest { run_id: run.id.clone(), after_position: Some(0), ..unset() };
    let kinds = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let none = ListEventsRequest { kinds: kinds(&["nothing"]), ..request() };
    assert_eq!(list(&server, none).await, (vec![], last));
    let prefix = ListEventsRequest { kinds: kinds(&["run_*", "note"]), ..request() };
    assert_eq!(list(&server, prefix).await, (vec!["run_created".into(), "note".into()], last));
    let sources = ListEventsRequest { sources: vec!["system".into()], ..request() };
    assert_eq!(list(&server, sources).await.0, ["run_created", "tasks_added"]);
    let of_task = ListEventsRequest { task_id: Some(task.id), ..request() };
    assert_eq!(list(&server, of_task).await.0, ["note"]);
}

/// One read covers a bounded number of events. The answer combines as many reads as it needs.
#[tokio::test]
async fn rare_kind_is_found_behind_many_other_events() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let first = append(&server.client, &run.id, vec![event("rare")]).await.last_position;
    for _ in 0..12 {
        append(&server.client, &run.id, vec![event("common"); 1_000]).await;
    }
    let last = append(&server.client, &run.id, vec![event("rare")]).await.last_position;
    let request = || ListEventsRequest { run_id: run.id.clone(), kinds: vec!["rare".into()], limit: 2, ..unset() };
    assert_eq!(list(&server, request()).await, (vec!["rare".into(), "rare".into()], last));
    let after = ListEventsRequest { after_position: Some(first), ..request() };
    assert_eq!(list(&server, after).await, (vec!["rare".into()], last));
    let one = ListEventsRequest { after_position: Some(0), limit: 1, ..request() };
    let (kinds, next) = list(&server, one).await;
    assert!(kinds == ["rare"] && (first..last).contains(&next), "{next}");
}

#[tokio::test]
async fn list_ends_before_3_mib() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let payload = value(serde_json::json!("x".repeat(1_000_000)));
    for _ in 0..7 {
        append(&server.client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    let request = ListEventsRequest { run_id: run.id.clone(), after_position: Some(0), limit: 1_000, ..unset() };
    let listed = server.client.list_events(request).await.unwrap();
    assert_eq!(listed.events.len(), 4, "run_created and three events of 1 MB");
    assert_eq!(log(&server.client, &run.id).await.len(), 8);
}

#[tokio::test]
async fn json_payloads_round_trip_by_value() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let values = [
        serde_json::json!(null),
        serde_json::json!({ "": [[], {}, "\u{0}\u{1F600}", -0.5, 1e300, 9_007_199_254_740_991_i64] }),
        serde_json::json!("text"),
        serde_json::json!(0.1),
    ];
    for payload in values {
        let draft = EventDraft { payload: value(payload.clone()), ..event("json") };
        append(&server.client, &run.id, vec![draft]).await;
        let last = log(&server.client, &run.id).await.pop().unwrap();
        assert_eq!(json(&last.payload), payload);
    }
    append(&server.client, &run.id, vec![event("unset")]).await;
    let last = log(&server.client, &run.id).await.pop().unwrap();
    assert_eq!(json(&last.payload), serde_json::json!(null));
}
