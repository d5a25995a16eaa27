//! C5: a request_id seen before gets the same answer.

mod every_rpc;
mod large_values;

use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Reason};

use crate::support::TestServer;
use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::dump::dump;

fn create(request_id: &str, goal: &str) -> CreateRunRequest {
    CreateRunRequest { goal: goal.into(), repo_path: "/repo".into(), request_id: request_id.into(), ..unset() }
}

async fn count_runs(client: &Client) -> usize {
    client.list_runs(unset()).await.unwrap().runs.len()
}

#[tokio::test]
async fn repeated_request_gets_the_first_answer_after_a_change_and_a_restart() {
    let server = TestServer::start().await;
    let first = server.client.create_run(create("id", "g")).await.unwrap();
    let run = first.run.as_ref().unwrap();
    set_status(&server.client, &run.id, RunStatus::Failed).await;
    assert_eq!(server.client.create_run(create("id", "g")).await.unwrap(), first);
    let server = server.restart().await;
    assert_eq!(server.client.create_run(create("id", "g")).await.unwrap(), first);
    assert_eq!(count_runs(&server.client).await, 1);
}

#[tokio::test]
async fn request_id_is_refused_with_other_content_and_scoped_to_its_rpc() {
    let server = TestServer::start().await;
    let run = server.client.create_run(create("id", "g")).await.unwrap().run.unwrap();
    assert_eq!(reason(server.client.create_run(create("id", "other")).await), Reason::RequestIdReused);
    let other_rpc = IncrementCycleRequest { run_id: run.id, request_id: "id".into() };
    assert_eq!(server.client.increment_cycle(other_rpc).await.unwrap().run.unwrap().cycle_count, 1);
}

#[tokio::test]
async fn order_of_labels_does_not_change_the_request() {
    let server = TestServer::start().await;
    let labels = |names: [&str; 3]| names.map(|name| (name.to_owned(), name.to_owned())).into();
    let request = |names| CreateRunRequest { labels: labels(names), ..create("id", "g") };
    let first = server.client.create_run(request(["a", "b", "c"])).await.unwrap();
    assert_eq!(server.client.create_run(request(["c", "b", "a"])).await.unwrap(), first);
}

#[tokio::test]
async fn concurrent_duplicates_have_one_effect_and_the_same_answer() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let calls: Vec<_> = (0..32)
        .map(|_| {
            let client = server.client.clone();
            let run_id = run.id.clone();
            let request = AppendEventsRequest { run_id, events: vec![event("once")], request_id: "id".into() };
            tokio::spawn(async move { client.append_events(request).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(kinds(&server.client, &run.id).await, ["run_created", "once"]);
}

#[tokio::test]
async fn request_that_changed_nothing_is_executed_again() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let claim = || ClaimTaskRequest { request_id: "id".into(), ..claim_request(&run.id, "agent") };
    assert_eq!(client.claim_task(claim()).await.unwrap().claim, None);
    add_task(client, &run.id, draft("t")).await;
    assert!(client.claim_task(claim()).await.unwrap().claim.is_some());

    let refused = UpdateRunRequest {
        run_id: run.id.clone(),
        summary: Some("s".into()),
        expected_revision: Some(2),
        request_id: "id".into(),
        ..unset()
    };
    assert_eq!(reason(client.update_run(refused.clone()).await), Reason::RevisionMismatch);
    set_status(client, &run.id, RunStatus::Running).await;
    assert_eq!(client.update_run(refused).await.unwrap().run.unwrap().revision, 3);
}

#[tokio::test]
async fn repeated_claim_returns_the_same_claim_until_it_is_stale() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("a"), draft("b")]).await;
    let request = ClaimTaskRequest { request_id: "id".into(), ..claim_request(&run.id, "agent") };
    let first = server.client.claim_task(request.clone()).await.unwrap();
    let server = server.restart().await;
    assert_eq!(server.client.claim_task(request.clone()).await.unwrap(), first);
    complete(&server.client, first.claim.as_ref().unwrap()).await;
    assert_eq!(reason(server.client.claim_task(request).await), Reason::StaleLease);
    let last = server.client.list_tasks(ListTasksRequest { run_id: run.id, ..unset() }).await.unwrap();
    assert_eq!(last.tasks[1].status(), TaskStatus::Pending);
}

/// The rejection of a stale write is an event, so it is remembered: a repeated call is rejected without a second event.
#[tokio::test]
async fn repeated_stale_write_is_rejected_again_and_logged_once() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    let held = claim(client, &run.id).await.unwrap();
    complete(client, &held).await;
    let late = CompleteTaskRequest { request_id: "id".into(), ..completion(&held) };
    let first = client.complete_task(late.clone()).await.unwrap_err();
    let second = client.complete_task(late).await.unwrap_err();
    assert_eq!(first.reason(), Some(&Reason::StaleLease));
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    let refusals = kinds(client, &run.id).await.into_iter().filter(|kind| kind == "stale_write_rejected");
    assert_eq!(refusals.count(), 1);
}

#[tokio::test]
async fn answers_are_kept_for_24_hours() {
    use runhub_server::housekeeping::{PastTimes, RetentionTimes, clean_up};
    use runhub_server::store::Store;
    let server = TestServer::start().await;
    let clock = server.clock.clone();
    let first = server.client.create_run(create("id", "g")).await.unwrap();
    let folder = server.stop().await;
    let db = TestDatabase::in_folder(folder.path());
    let store = Store::open_at(&db.location(), std::sync::Arc::new(clock.clone()), Box::new(|_| {})).unwrap();
    let answers = || dump(&db).iter().filter(|row| row.starts_with("requests: ")).count();
    let day = RetentionTimes { requests_for: Duration::from_secs(24 * 3600), events_for: None };
    let mut past = PastTimes::new(&clock);
    clock.advance(day.requests_for);
    past.record(&clock, day);
    clean_up(&store, &past, day).await.unwrap();
    assert_eq!(answers(), 1);
    clock.advance(Duration::from_millis(1));
    past.record(&clock, day);
    clean_up(&store, &past, day).await.unwrap();
    assert_eq!(answers(), 0);
    assert!(first.run.is_some());
}
