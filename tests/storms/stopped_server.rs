//! A server whose process is stopped for longer than the leases.

use std::time::Duration;

use runhub_client::v1::*;

use crate::support::binary::{Binary, signal};
use crate::support::calls::*;
use crate::support::until;

/// A stopped process expires no lease when it continues: holders report first (C3).
#[tokio::test(flavor = "multi_thread")]
async fn stopped_server_expires_no_live_lease_when_it_continues() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &[]);
    let client = server.connect().await;
    let run_id = new_run(&client).await.id;
    add_tasks(&client, &run_id, vec![draft("a"), draft("b")]).await;
    let held = claim_for(&client, &run_id, "a", 6).await.unwrap();
    let silent = claim_for(&client, &run_id, "b", 6).await.unwrap();
    signal("STOP", server.pid());
    // Longer than the leases: this test is about real time.
    tokio::time::sleep(Duration::from_secs(8)).await;
    signal("CONT", server.pid());
    assert_eq!(beat(&client, &held).await.state(), LeaseState::Extended);
    assert_eq!(complete(&client, &held).await.status(), TaskStatus::Completed);
    assert!(!kinds(&client, &run_id).await.contains(&"lease_expired".to_owned()), "leases live 6 s longer");
    // The lease of the silent holder expires in the end.
    until(|| async { get_task(&client, &task_id(&silent)).await.status() == TaskStatus::Pending }).await;
}
