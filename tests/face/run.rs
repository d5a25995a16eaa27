//! Runs: paging, revisions, status and limits.

use runhub_client::Reason;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

#[tokio::test]
async fn pages_cover_all_runs() {
    let server = TestServer::start().await;
    for at in 0..7 {
        let run = new_run(&server.client).await;
        if at % 2 == 0 {
            set_status(&server.client, &run.id, RunStatus::Running).await;
        }
    }
    let all = server.client.list_runs(unset()).await.unwrap().runs;
    let mut paged = Vec::new();
    let mut request = ListRunsRequest { page_size: 3, ..unset() };
    loop {
        let page = server.client.list_runs(request.clone()).await.unwrap();
        assert!(page.runs.len() <= 3);
        paged.extend(page.runs);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    let running = ListRunsRequest { statuses: vec![RunStatus::Running.into()], page_size: 3, ..unset() };
    let page = server.client.list_runs(running.clone()).await.unwrap();
    assert_eq!(page.runs.len(), 3);
    let other_query = ListRunsRequest { page_token: page.next_page_token, page_size: 3, ..unset() };
    assert_eq!(reason(server.client.list_runs(other_query).await), Reason::InvalidField);
}

#[tokio::test]
async fn update_logs_the_changed_fields_and_increments_the_revision() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let running = set_status(&server.client, &run.id, RunStatus::Running).await;
    assert_eq!((run.revision, running.revision), (1, 2));
    let last = log(&server.client, &run.id).await.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.source.as_str()), ("run_updated", "system"));
    assert_eq!(json(&last.payload), serde_json::json!({ "status": "RUN_STATUS_RUNNING" }));

    // Repeating the update changes nothing.
    assert_eq!(set_status(&server.client, &run.id, RunStatus::Running).await, running);
    assert_eq!(kinds(&server.client, &run.id).await.len(), 2);
}

#[tokio::test]
async fn update_with_another_expected_revision_is_refused() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let update = |expected: i64, status: RunStatus| UpdateRunRequest {
        run_id: run.id.clone(),
        status: Some(status.into()),
        expected_revision: Some(expected),
        ..unset()
    };
    server.client.update_run(update(1, RunStatus::Running)).await.unwrap();
    let refused = server.client.update_run(update(1, RunStatus::Failed)).await.unwrap_err();
    let runhub_client::Error::Refused { reason, metadata, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(reason, Reason::RevisionMismatch);
    assert_eq!((metadata["expected"].as_str(), metadata["actual"].as_str()), ("1", "2"));
}

#[tokio::test]
async fn ended_run_accepts_records_but_no_claims_and_can_be_reopened() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![draft("a"), draft("b")]).await;
    let held = claim(client, &run.id).await.unwrap();
    set_status(client, &run.id, RunStatus::Completed).await;
    let refused = client.claim_task(claim_request(&run.id, "agent")).await;
    assert_eq!(reason(refused), Reason::RunEnded);
    append(client, &run.id, vec![event("late")]).await;
    assert_eq!(complete(client, &held).await.status(), TaskStatus::Completed);
    set_status(client, &run.id, RunStatus::Running).await;
    assert!(claim(client, &run.id).await.is_some());
}

#[tokio::test]
async fn too_large_snapshot_is_refused_and_a_limited_one_is_returned() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let large = "x".repeat(60 * 1024);
    for _ in 0..6 {
        let drafts = (0..50).map(|_| TaskDraft { objective: large.clone(), ..draft("t") }).collect();
        add_tasks(client, &run.id, drafts).await;
    }
    let request = |task_limit| GetRunSnapshotRequest { run_id: run.id.clone(), task_limit, ..unset() };
    assert_eq!(reason(client.get_run_snapshot(request(0)).await), Reason::SnapshotTooLarge);
    let snapshot = client.get_run_snapshot(request(2)).await.unwrap().snapshot.unwrap();
    let ordinals: Vec<_> = snapshot.pending_tasks.iter().map(|task| task.ordinal).collect();
    assert_eq!(ordinals, [299, 300]);
}

#[tokio::test]
async fn page_ends_before_3_mib() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let large = "x".repeat(60 * 1024);
    for _ in 0..2 {
        let drafts = (0..50).map(|_| TaskDraft { objective: large.clone(), ..draft("t") }).collect();
        add_tasks(client, &run.id, drafts).await;
    }
    let mut seen = 0;
    let mut request = ListTasksRequest { run_id: run.id.clone(), ..unset() };
    loop {
        let page = client.list_tasks(request.clone()).await.unwrap();
        assert!(prost::Message::encoded_len(&page) < 3 * 1024 * 1024);
        seen += page.tasks.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, 100);
}

/// A list of zeros is five times as large on the wire as its JSON in the store.
#[tokio::test]
async fn page_ends_before_3_mib_on_the_wire() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let payload = value(serde_json::json!(vec![0; 90_000]));
    for _ in 0..8 {
        let run_id = run.id.clone();
        let payload = payload.clone();
        let status = 1;
        let create = CreateCheckpointRequest { run_id, status, payload: payload.clone(), ..unset() };
        client.create_checkpoint(create).await.unwrap();
        append(client, &run.id, vec![EventDraft { payload, ..event("zeros") }]).await;
    }
    let mut request = ListCheckpointsRequest { run_id: run.id.clone(), ..unset() };
    let mut pages = Vec::new();
    loop {
        let page = client.list_checkpoints(request.clone()).await.unwrap();
        assert!(prost::Message::encoded_len(&page) < 3 * 1024 * 1024);
        pages.push(page.checkpoints.len());
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((pages.len(), pages.iter().sum::<usize>()), (3, 8), "{pages:?}");
    let zeros = log(client, &run.id).await.into_iter().filter(|event| event.kind == "zeros");
    assert_eq!(zeros.count(), 8);
    let newest = ListEventsRequest { run_id: run.id.clone(), ..unset() };
    let newest = client.list_events(newest).await.unwrap();
    assert!(prost::Message::encoded_len(&newest) < 3 * 1024 * 1024);
    assert_eq!(newest.events.last().unwrap().seq, 17);
}
