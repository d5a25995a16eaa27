//! The disk of the server is full or damaged, in front of the real binary.
//!
//! A limit of the file size (RLIMIT_FSIZE) stands for the full disk: the tests can set and lift the limit while the
//! server runs, and a write beyond the limit fails with EFBIG.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rlimit::{INFINITY, Resource};
use runhub_client::v1::*;
use runhub_client::{Client, Reason, Update};
use runhub_server::rpc::Hub;
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::support::binary::{self, Binary};
use crate::support::calls::*;
use crate::support::faults::Faults;
use crate::support::record::Watcher;
use crate::support::{channel, soon, until};

/// Starts a server whose log is a file, which is on the full disk too.
fn start(folder: &TempDir) -> Binary {
    let mut command = binary::runhub(&["serve", "--listen", "127.0.0.1:0", "--db", db_in(folder).to_str().unwrap()]);
    command.stderr(File::create(log_in(folder)).unwrap());
    Binary::spawn(command)
}

fn db_in(folder: &TempDir) -> PathBuf {
    folder.path().join("runhub.db")
}

fn log_in(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// Sets the largest size of each file that the process may write.
fn limit_file_size(server: &Binary, bytes: u64) {
    let pid = server.pid().try_into().unwrap();
    rlimit::prlimit(pid, Resource::FSIZE, Some((bytes, INFINITY)), None).unwrap();
}

fn fill_disk(server: &Binary) {
    limit_file_size(server, 0);
}

fn free_disk(server: &Binary) {
    limit_file_size(server, INFINITY);
}

/// Returns the health of the whole server and of every service.
async fn health(server: &Binary) -> Vec<ServingStatus> {
    let mut health = HealthClient::new(channel(&format!("http://{}", server.address)).await);
    let mut statuses = Vec::new();
    for service in Hub::SERVICES.iter().chain([&""]) {
        let request = HealthCheckRequest { service: (*service).to_owned() };
        statuses.push(health.check(request).await.unwrap().into_inner().status());
    }
    statuses
}

async fn until_health_is(server: &Binary, status: ServingStatus) {
    until(async || health(server).await.iter().all(|service| *service == status)).await;
}

async fn try_append(client: &Client, run_id: &str) -> Result<AppendEventsResponse, runhub_client::Error> {
    client.append_events(AppendEventsRequest { run_id: run_id.into(), events: vec![event("note")], ..unset() }).await
}

/// Waits until the time of the server is a second after `time`.
async fn until_server_time(client: &Client, time: prost_types::Timestamp) {
    let server_time = async || client.get_server_info(unset()).await.unwrap().server_time.unwrap().seconds;
    until(async || server_time().await > time.seconds + 1).await;
}

#[tokio::test]
async fn full_disk_refuses_writes_with_store_full_and_serves_reads_until_it_has_space() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let client = server.connect().await;
    let run = new_run(&client).await;
    let subscription = SubscribeEventsRequest { run_id: run.id.clone(), ..bookmarks_often() };
    let mut watcher = Watcher::new(&client, db_in(&folder), subscription);
    watcher.next_event().await;
    fill_disk(&server);
    assert_eq!(reason(try_append(&client, &run.id).await), Reason::StoreFull);
    let request = AppendEventsRequest { run_id: run.id.clone(), events: vec![event("note")], ..unset() };
    let mut stub = event_service_client::EventServiceClient::new(channel(&format!("http://{}", server.address)).await);
    let status = stub.append_events(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.get_error_details().retry_info().is_some_and(|info| info.retry_delay.is_some()));
    until_health_is(&server, ServingStatus::NotServing).await;
    assert_eq!(get_run(&client, &run.id).await.id, run.id);
    while !matches!(soon(watcher.next()).await.unwrap().unwrap(), Update::Bookmark(_)) {}
    free_disk(&server);
    until_health_is(&server, ServingStatus::Serving).await;
    assert_eq!(try_append(&client, &run.id).await.unwrap().first_seq, 2);
    assert_eq!(watcher.next_event().await.seq, 2);
}

fn bookmarks_often() -> SubscribeEventsRequest {
    let bookmark_interval = Some(Duration::from_millis(100).try_into().unwrap());
    SubscribeEventsRequest { bookmark_interval, ..unset() }
}

/// The disk is full for longer than the lease. The agent's heartbeats fail meanwhile.
#[tokio::test]
async fn lease_does_not_expire_while_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let client = server.connect().await;
    let run = new_run(&client).await;
    add_task(&client, &run.id, draft("t")).await;
    let claim = claim_for(&client, &run.id, "agent", 2).await.unwrap();
    fill_disk(&server);
    let beats = vec![Beat { lease_token: claim.lease_token.clone(), ..unset() }];
    let heartbeat = HeartbeatRequest { beats, ..unset() };
    assert_eq!(reason(client.heartbeat(heartbeat).await), Reason::StoreFull);
    until_server_time(&client, claim.lease_expire_time.unwrap()).await;
    free_disk(&server);
    until_health_is(&server, ServingStatus::Serving).await;
    assert_eq!(beat(&client, &claim).await.state(), LeaseState::Extended);
    let task = complete(&client, &claim).await;
    assert_eq!((task.status(), task.attempt_count), (TaskStatus::Completed, 1));
    assert!(!kinds(&client, &run.id).await.contains(&"lease_expired".to_owned()));
}

/// Starts a server whose files can't exceed a size, as if the disk had been full before.
fn serve_with_file_size(db: &Path, bytes: u64) -> Command {
    let mut command = Command::new("prlimit");
    let (limit, db) = (format!("--fsize={bytes}:unlimited"), db.to_str().unwrap());
    command.args([&limit, "--", env!("CARGO_BIN_EXE_runhub"), "serve", "--listen", "127.0.0.1:0", "--db", db]);
    command
}

#[tokio::test]
async fn server_that_starts_on_a_full_disk_serves_reads_and_expires_no_lease() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&folder);
    let client = server.connect().await;
    let run = new_run(&client).await;
    add_task(&client, &run.id, draft("t")).await;
    let claim = claim_for(&client, &run.id, "agent", 1).await.unwrap();
    server.kill();
    // The limit leaves space for the 32 KiB of the file `-shm`, and the write-ahead log is longer.
    const SIZE: u64 = 40 * 1024;
    assert!(std::fs::metadata(folder.path().join("runhub.db-wal")).unwrap().len() > SIZE);
    let server = Binary::spawn(serve_with_file_size(&db_in(&folder), SIZE));
    let client = server.connect().await;
    assert_eq!(health(&server).await, vec![ServingStatus::NotServing; Hub::SERVICES.len() + 1]);
    assert_eq!(reason(try_append(&client, &run.id).await), Reason::StoreFull);
    until_server_time(&client, claim.lease_expire_time.unwrap()).await;
    assert_eq!(get_task(&client, &task_id(&claim)).await.status(), TaskStatus::InProgress);
    free_disk(&server);
    until_health_is(&server, ServingStatus::Serving).await;
    assert_eq!(complete(&client, &claim).await.attempt_count, 1);
    assert!(!kinds(&client, &run.id).await.contains(&"lease_expired".to_owned()));
}

#[test]
fn server_that_can_not_open_its_database_on_a_full_disk_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let db = db_in(&folder);
    let refused = serve_with_file_size(&db, 0).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains(&format!("can't open the database {}: its disk is full", db.display())), "{message}");
}

#[test]
fn import_on_a_full_disk_fails_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, db) = (folder.path().join("issues.jsonl"), db_in(&folder));
    let long = "long ".repeat(10_000);
    let issue = |id| format!(r#"{{"id":"a{id}","title":"t","description":"{long}","status":"open"}}"#);
    std::fs::write(&ledger, (0..20).map(issue).collect::<Vec<_>>().join("\n")).unwrap();
    let mut command = Command::new("prlimit");
    command.args(["--fsize=700000", "--", env!("CARGO_BIN_EXE_runhub"), "import", "beads", "--repo-path", "r"]);
    let refused = command.arg(&ledger).arg("--db").arg(&db).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.contains("the disk of the database is full, so nothing was imported"), "{message}");
}

/// Overwrites all pages of a database file but the first, as a failing disk could.
fn damage(db: &Path) {
    let file = OpenOptions::new().write(true).open(db).unwrap();
    let (page, length) = (4096, file.metadata().unwrap().len());
    file.write_all_at(&vec![0xff; (length - page) as usize], page).unwrap();
}

/// Moves the content of the write-ahead log into the database file, so that a server reads the file.
fn checkpoint(db: &Path) {
    let conn = rusqlite::Connection::open(db).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// The writer has everything that it needs in memory, so only a read meets the failure.
#[tokio::test]
async fn read_that_fails_ends_the_server_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::new(folder.path());
    let server = faults.start();
    let client = server.connect().await;
    let run = new_run(&client).await;
    faults.fail_reads();
    let failed = client.get_run(GetRunRequest { run_id: run.id }).await.unwrap_err();
    assert_eq!(failed.reason(), Some(&Reason::Draining), "the caller repeats the call after the restart: {failed}");
    assert_eq!(soon(server.exit_code()).await, Some(1));
    let errors = faults.read_errors();
    assert!(errors.contains(&format!("error: the server ended because the database {}", faults.db().display())));
    assert!(errors.contains("os error 5"), "{errors}");
}

#[tokio::test]
async fn damaged_database_ends_the_server_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let db = db_in(&folder);
    let server = start(&folder);
    let run = new_run(&server.connect().await).await;
    server.terminate();
    assert!(server.wait().await);
    checkpoint(&db);
    let server = start(&folder);
    let client = server.connect().await;
    let mut stub = event_service_client::EventServiceClient::new(channel(&format!("http://{}", server.address)).await);
    let subscription = SubscribeEventsRequest { run_id: run.id.clone(), ..unset() };
    let mut stream = stub.subscribe_events(subscription).await.unwrap().into_inner();
    damage(&db);
    let lost = try_append(&client, &run.id).await.unwrap_err();
    assert_eq!(lost.reason(), Some(&Reason::Draining), "the caller repeats the call after the restart: {lost}");
    while let Ok(Some(_)) = soon(stream.message()).await {}
    assert_eq!(soon(server.exit_code()).await, Some(1));
    let log = std::fs::read_to_string(log_in(&folder)).unwrap();
    assert!(log.contains(&format!("error: the server ended because the database {}", db.display())), "{log}");
    assert!(log.contains("malformed"), "{log}");
}
