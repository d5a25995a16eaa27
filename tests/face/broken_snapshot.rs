//! A stream that breaks off in the middle of a snapshot. A fake server sends it, because a real one can't be told to
//! break off at the right moment.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{Stream, stream};
use runhub_api::EncodedResponse;
use runhub_client::v1::event_service_server::{EventService, EventServiceServer};
use runhub_client::v1::server_service_server::{ServerService, ServerServiceServer};
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use runhub_client::{Client, Update};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::support::calls::*;
use crate::support::soon;

const POSITION: i64 = 9;

/// A server whose first stream breaks off after the first of two snapshot parts.
#[derive(Clone, Default)]
struct Breaking {
    subscribed: Arc<AtomicUsize>,
}

fn part(title: &str, position: i64) -> Result<EncodedResponse, Status> {
    let pending_tasks = vec![Task { title: title.into(), ..unset() }];
    let run = Some(Run::default()).filter(|_| position == 0);
    Ok(response(Message::Snapshot(RunSnapshot { run, pending_tasks, position, ..unset() })))
}

fn response(message: Message) -> EncodedResponse {
    SubscribeEventsResponse { message: Some(message) }.into()
}

#[tonic::async_trait]
impl EventService for Breaking {
    type SubscribeEventsStream = Pin<Box<dyn Stream<Item = Result<EncodedResponse, Status>> + Send>>;

    async fn subscribe_events(
        &self,
        request: Request<SubscribeEventsRequest>,
    ) -> Result<Response<Self::SubscribeEventsStream>, Status> {
        assert_eq!(request.into_inner().after_position, None, "an incomplete snapshot must not become a cursor");
        let messages = match self.subscribed.fetch_add(1, Ordering::SeqCst) {
            0 => vec![part("first", 0), Err(Status::unavailable("broken off"))],
            _ => vec![
                part("first", 0),
                part("second", POSITION),
                Ok(response(Message::CaughtUp(CaughtUp { position: POSITION, ..unset() }))),
            ],
        };
        Ok(Response::new(Box::pin(stream::iter(messages))))
    }

    async fn append_events(&self, _: Request<AppendEventsRequest>) -> Result<Response<AppendEventsResponse>, Status> {
        Err(Status::unimplemented("not used by this test"))
    }

    async fn list_events(&self, _: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        Err(Status::unimplemented("not used by this test"))
    }
}

#[tonic::async_trait]
impl ServerService for Breaking {
    async fn get_server_info(
        &self,
        _: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        Ok(Response::new(GetServerInfoResponse { log_id: "log".into(), ..unset() }))
    }

    async fn list_servers(&self, _: Request<ListServersRequest>) -> Result<Response<ListServersResponse>, Status> {
        Err(Status::unimplemented("not used by this test"))
    }
}

#[tokio::test]
async fn interrupted_snapshot_starts_over() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let breaking = Breaking::default();
    let serving = tonic::transport::Server::builder()
        .add_service(EventServiceServer::new(breaking.clone()))
        .add_service(ServerServiceServer::new(breaking.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(serving);
    let start = SubscribeStart::FromSnapshot.into();
    let request = SubscribeEventsRequest { run_id: "run".into(), start, ..unset() };
    let mut subscription = Client::connect(&url).await.unwrap().subscribe(request);
    let first = soon(subscription.next()).await.unwrap().unwrap();
    let Update::Snapshot(snapshot) = first else { panic!("{first:?}") };
    let titles: Vec<&str> = snapshot.pending_tasks.iter().map(|task| task.title.as_str()).collect();
    assert_eq!((titles, snapshot.position), (vec!["first", "second"], POSITION), "each part must appear once");
    assert_eq!(soon(subscription.next()).await.unwrap().unwrap(), Update::CaughtUp(POSITION));
    assert_eq!(breaking.subscribed.load(Ordering::SeqCst), 2);
    serving.abort();
}
