//! The server as a whole: health, reflection, start and stop.

use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, Reason};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::binary::{self, Binary};
use crate::support::calls::*;
use crate::support::{TestServer, channel};

#[tokio::test]
async fn server_info_describes_the_server() {
    let server = TestServer::start().await;
    let info = server.client.get_server_info(GetServerInfoRequest {}).await.unwrap();
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    let database = if crate::ON_POSTGRES { "postgresql 1" } else { "sqlite 3." };
    assert!(info.store.starts_with(database), "{}", info.store);
    let limits = info.limits.unwrap();
    assert_eq!((limits.request_bytes, limits.streams_per_connection), (4 * 1024 * 1024, 1_024));
    let log_id = info.log_id.clone();
    assert!(!log_id.is_empty());
    server.clock.advance(Duration::from_secs(5));
    let later = server.client.get_server_info(GetServerInfoRequest {}).await.unwrap();
    assert_eq!(later.server_time.unwrap().seconds - later.start_time.unwrap().seconds, 5);
    let server = server.restart().await;
    let restarted = server.client.get_server_info(GetServerInfoRequest {}).await.unwrap();
    assert_eq!(restarted.log_id, log_id);
    let other = TestServer::start().await;
    assert_ne!(other.client.get_server_info(GetServerInfoRequest {}).await.unwrap().log_id, log_id);
}

#[tokio::test]
async fn health_is_reported_for_each_service() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(channel(&server.url).await);
    for service in ["", "runhub.v1.RunService", "runhub.v1.TaskService", "runhub.v1.EventService"] {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
}

#[tokio::test]
async fn unknown_method_is_unimplemented() {
    let server = TestServer::start().await;
    let mut grpc = tonic::client::Grpc::new(channel(&server.url).await);
    grpc.ready().await.unwrap();
    let path = "/runhub.v1.RunService/Nothing".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<GetRunRequest, GetRunResponse>::default();
    let refused = grpc.unary(tonic::Request::new(GetRunRequest::default()), path, codec).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}

/// After SIGTERM the server ends within its drain time, although watchers, an idle and a silent connection are open.
#[tokio::test]
async fn server_stops_within_the_drain_time_with_open_connections() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &["--drain", "3s"]);
    let client = server.connect().await;
    let run = new_run(&client).await;
    let mut stubs = Vec::new();
    for _ in 0..5 {
        let channel = channel(&format!("http://{}", server.address)).await;
        let mut stub = event_service_client::EventServiceClient::new(channel);
        let request = SubscribeEventsRequest { run_id: run.id.clone(), ..unset() };
        stubs.push(stub.subscribe_events(request).await.unwrap().into_inner());
    }
    let _idle = server.connect().await;
    let _silent = std::net::TcpStream::connect(&server.address).unwrap();
    let asked = Instant::now();
    server.terminate();
    for mut stream in stubs {
        let mut last = None;
        let status = loop {
            match stream.message().await {
                Ok(Some(message)) => last = message.message,
                Ok(None) => panic!("the stream must end with UNAVAILABLE"),
                Err(status) => break status,
            }
        };
        let Some(subscribe_events_response::Message::End(end)) = last else { panic!("{last:?}") };
        assert_eq!(end.reason(), EndReason::Draining);
        assert_eq!(runhub_client::Error::from(status).reason(), Some(&Reason::Draining));
    }
    assert!(server.wait().await);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

/// A client that stops reading in the middle of a large answer can't delay the shutdown either.
#[tokio::test]
async fn server_stops_within_the_drain_time_with_a_watcher_that_never_reads() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &["--drain", "3s"]);
    let client = server.connect().await;
    let run = new_run(&client).await;
    let payload = value(serde_json::json!("x".repeat(500_000)));
    for _ in 0..20 {
        append(&client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    let channel = channel(&format!("http://{}", server.address)).await;
    let mut stub = event_service_client::EventServiceClient::new(channel);
    let _never_read = stub.subscribe_events(SubscribeEventsRequest { run_id: run.id, ..unset() }).await.unwrap();
    let asked = Instant::now();
    server.terminate();
    assert!(server.wait().await);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn server_replaces_the_unix_socket_of_a_killed_server() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}/sock", folder.path().display());
    Binary::start_in_on(&listen, folder.path(), &[]).kill();
    assert!(folder.path().join("sock").exists());
    let server = Binary::start_in_on(&listen, folder.path(), &[]);
    let client = Client::connect(&listen).await.unwrap();
    new_run(&client).await;
    server.terminate();
    assert!(server.wait().await);
    assert!(!folder.path().join("sock").exists());
}

#[test]
fn file_that_is_not_a_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, "mine").unwrap();
    let listen = format!("unix:{}", notes.display());
    assert!(binary::refuse(binary::serve_in(&listen, folder.path())).contains("notes.txt"));
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "mine");
}

/// A server without free file descriptors must wait for one, and must not try to accept connections continuously.
#[tokio::test(flavor = "multi_thread")]
async fn server_without_free_file_descriptors_waits_and_then_serves_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_with_file_limit(folder.path(), 64);
    let connected = server.connect().await;
    new_run(&connected).await;
    let mut sockets = Vec::new();
    for _ in 0..80 {
        sockets.push(tokio::net::TcpStream::connect(&server.address).await.unwrap());
    }
    new_run(&connected).await;
    let before = server.cpu_ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = server.cpu_ticks() - before;
    assert!(used < 50, "the server used {used} % of a processor while it waited");
    drop(sockets);
    new_run(&server.connect().await).await;
}
