//! This module reads event streams and decodes only the fields that the bench needs. If the bench decoded every field,
//! a result row would also measure the decoding in the client.

use runhub_api::v1;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::Error;

/// The fields of a `SubscribeEventsResponse` that the bench needs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialResponse {
    #[prost(message, optional, tag = "2")]
    pub event: Option<PartialEvent>,
}

/// The fields of an `Event` that the bench needs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialEvent {
    #[prost(int64, tag = "1")]
    pub position: i64,
    #[prost(string, tag = "7")]
    pub message: String,
}

/// Subscribes to all events of a run, starting with the first event of the run, and returns the stream. Fails if the
/// server refuses the subscription.
pub async fn subscribe(channel: &Channel, run_id: &str) -> Result<Streaming<PartialResponse>, Error> {
    let request = v1::SubscribeEventsRequest { run_id: run_id.to_owned(), ..Default::default() };
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await?;
    let path = "/runhub.v1.EventService/SubscribeEvents".parse();
    let path = path.map_err(|_| Error::Address("the path of SubscribeEvents".to_owned()))?;
    let codec = tonic_prost::ProstCodec::<v1::SubscribeEventsRequest, PartialResponse>::default();
    Ok(grpc.server_streaming(Request::new(request), path, codec).await?.into_inner())
}

/// Returns the next event of the stream. Fails if the stream ends, or if the event's position is not after
/// `last_position`, because the bench would count the event twice.
pub async fn next_event(
    stream: &mut Streaming<PartialResponse>,
    last_position: &mut i64,
) -> Result<PartialEvent, Status> {
    loop {
        let message = stream.message().await?.ok_or_else(|| {
            Status::aborted("the SubscribeEvents stream ended before the last event: check that the server is running")
        })?;
        let Some(event) = message.event else { continue };
        if event.position <= *last_position {
            let position = event.position;
            let problem = format!(
                "SubscribeEvents sent position {position} after position {last_position} instead of a higher position: report the bug"
            );
            return Err(Status::data_loss(problem));
        }
        *last_position = event.position;
        return Ok(event);
    }
}

/// Reads `count` events of the stream. Fails if the stream ends earlier or sends an event twice.
pub async fn read_events(mut stream: Streaming<PartialResponse>, count: usize) -> Result<(), Status> {
    let mut last_position = 0;
    for _ in 0..count {
        next_event(&mut stream, &mut last_position).await?;
    }
    Ok(())
}
