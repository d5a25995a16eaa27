//! Watchers.

use std::time::{Duration, Instant};

use runhub_api::v1;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::claims::new_run;
use super::sample::Sample;
use super::{Bench, Row};
use crate::cli::Failure;

const WATCHERS: usize = 100;
const PER_CONNECTION: usize = 10;
const EVENTS: usize = 20_000;
const EVENTS_PER_CALL: usize = 100;
/// With and without, in turns, so that both see the same machine.
const TURNS: usize = 5;
/// The design's: at most so many times the time without it.
const MOST: f64 = 1.2;
/// So small that it is soon full when nobody reads.
const NARROW: u32 = 64 * 1024;

/// Of what a stream brings, what it takes to know that an event came: the rest would measure the client.
#[derive(Clone, PartialEq, prost::Message)]
struct Brief {
    #[prost(message, optional, tag = "2")]
    event: Option<BriefEvent>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BriefEvent {
    #[prost(int64, tag = "1")]
    position: i64,
}

/// How long it takes until a hundred watchers have all events beside one that never reads, and without it.
pub async fn beside_one_that_never_reads(bench: &Bench) -> Result<Row, Failure> {
    bench.begin("watchers", 2 * TURNS);
    let (mut with, mut without) = (Sample::default(), Sample::default());
    for _ in 0..TURNS {
        without.add(until_all_have_all(bench, false).await?);
        bench.progress.inc(1);
        with.add(until_all_have_all(bench, true).await?);
        bench.progress.inc(1);
    }
    let (value, ceiling) = (with.percentile(50), without.percentile(50));
    let ratio = value / ceiling;
    Ok(Row {
        name: "100 watchers beside one that never reads",
        unit: "ms",
        value,
        p50: None,
        p99: None,
        ceiling: Some(ceiling),
        ratio: Some(ratio),
        target: MOST,
        met: ratio <= MOST,
    })
}

async fn until_all_have_all(bench: &Bench, with_one_that_never_reads: bool) -> Result<Duration, Failure> {
    let (run_id, events) = (new_run(&bench.client).await?, bench.times(EVENTS));
    let never_reads = match with_one_that_never_reads {
        true => Some(subscribe(&connect(&bench.url, NARROW).await?, &run_id).await?),
        false => None,
    };
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS / PER_CONNECTION {
        let channel = connect(&bench.url, 1024 * 1024).await?;
        for _ in 0..PER_CONNECTION {
            // And the run's first event.
            watchers.spawn(read(subscribe(&channel, &run_id).await?, events + 1));
        }
    }
    let begun = Instant::now();
    append(bench, &run_id, events).await?;
    while let Some(done) = watchers.join_next().await {
        done.map_err(|error| Failure::failed(error.to_string()))?.map_err(runhub_client::Error::from)?;
    }
    let took = begun.elapsed();
    drop(never_reads);
    Ok(took)
}

async fn append(bench: &Bench, run_id: &str, events: usize) -> Result<(), Failure> {
    let event = v1::EventDraft { source: "bench".to_owned(), kind: "bench".to_owned(), ..Default::default() };
    for _ in 0..events / EVENTS_PER_CALL {
        let events = vec![event.clone(); EVENTS_PER_CALL];
        let request = v1::AppendEventsRequest { run_id: run_id.to_owned(), events, ..Default::default() };
        bench.client.append_events(request).await?;
    }
    Ok(())
}

async fn connect(url: &str, stream_window: u32) -> Result<Channel, Failure> {
    let url = if url.contains("://") || url.starts_with("unix:") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = Channel::from_shared(url).map_err(|error| Failure::usage(error.to_string()))?;
    let endpoint = endpoint.tcp_nodelay(true).initial_stream_window_size(stream_window);
    let endpoint = endpoint.initial_connection_window_size(stream_window.saturating_mul(PER_CONNECTION as u32 + 1));
    endpoint.connect().await.map_err(|error| Failure::failed(error.to_string()))
}

async fn subscribe(channel: &Channel, run_id: &str) -> Result<Streaming<Brief>, Failure> {
    let request = v1::SubscribeEventsRequest { run_id: run_id.to_owned(), ..Default::default() };
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Failure::failed(error.to_string()))?;
    let path = "/runhub.v1.EventService/SubscribeEvents".parse();
    let path = path.map_err(|_| Failure::failed("the path of an RPC is none"))?;
    let codec = tonic_prost::ProstCodec::<v1::SubscribeEventsRequest, Brief>::default();
    let answer = grpc.server_streaming(Request::new(request), path, codec).await;
    Ok(answer.map_err(runhub_client::Error::from)?.into_inner())
}

/// Reads until so many events have come.
async fn read(mut stream: Streaming<Brief>, events: usize) -> Result<(), Status> {
    let mut seen = 0;
    while seen < events {
        let message = stream.message().await?.ok_or_else(|| Status::aborted("the stream ended early"))?;
        seen += usize::from(message.event.is_some());
    }
    Ok(())
}
