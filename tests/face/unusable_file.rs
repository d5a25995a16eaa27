//! Database files that a server can't use, because another process uses them or a newer version wrote them.

use runhub_client::Reason;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::binary::{self, Binary};
use crate::support::calls::*;

#[tokio::test]
async fn second_server_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    assert!(binary::refuse_to_start("127.0.0.1:0", &db).contains("another runhub has"));
    // The lock is released when its holder ends, even by a kill.
    server.kill();
    Binary::start(&db, &[]);
}

#[test]
fn newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    rusqlite::Connection::open(&db).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    assert!(binary::refuse_to_start("127.0.0.1:0", &db).contains("newer runhub"));
}

/// A lock that another process keeps is STORE_BUSY. The call succeeds once the lock is released.
#[tokio::test]
async fn locked_database_answers_store_busy() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let other = rusqlite::Connection::open(server.db_file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let request = AppendEventsRequest { run_id: run.id.clone(), events: vec![event("x")], ..unset() };
    assert_eq!(reason(server.client.append_events(request.clone()).await), Reason::StoreBusy);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(server.client.append_events(request).await.unwrap().first_seq, 2);
}
