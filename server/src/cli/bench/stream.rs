//! Subscriptions that cost the client as little as can be.

use runhub_api::v1;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::cli::Failure;

/// Of what a stream brings, what it takes to know that an event came: the rest would measure the client.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Brief {
    #[prost(message, optional, tag = "2")]
    pub event: Option<BriefEvent>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BriefEvent {
    #[prost(int64, tag = "1")]
    pub position: i64,
    #[prost(string, tag = "7")]
    pub message: String,
}

/// Everything of a run, from its beginning.
pub async fn subscribe(channel: &Channel, run_id: &str) -> Result<Streaming<Brief>, Failure> {
    let request = v1::SubscribeEventsRequest { run_id: run_id.to_owned(), ..Default::default() };
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Failure::failed(error.to_string()))?;
    let path = "/runhub.v1.EventService/SubscribeEvents".parse();
    let path = path.map_err(|_| Failure::failed("the path of an RPC is none"))?;
    let codec = tonic_prost::ProstCodec::<v1::SubscribeEventsRequest, Brief>::default();
    let answer = grpc.server_streaming(Request::new(request), path, codec).await;
    Ok(answer.map_err(runhub_client::Error::from)?.into_inner())
}

/// The next event, which comes after the one before: none is counted twice.
pub async fn next_event(stream: &mut Streaming<Brief>, last: &mut i64) -> Result<BriefEvent, Status> {
    loop {
        let message = stream.message().await?.ok_or_else(|| Status::aborted("the stream ended early"))?;
        let Some(event) = message.event else { continue };
        if event.position <= *last {
            return Err(Status::data_loss("an event came out of order"));
        }
        *last = event.position;
        return Ok(event);
    }
}

/// Reads until so many events have come.
pub async fn read(mut stream: Streaming<Brief>, events: usize) -> Result<(), Status> {
    let mut last = 0;
    for _ in 0..events {
        next_event(&mut stream, &mut last).await?;
    }
    Ok(())
}
