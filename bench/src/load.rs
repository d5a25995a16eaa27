//! This module runs callers in a closed loop: each caller makes its next call after the server has answered the
//! previous call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::server_service_client::ServerServiceClient;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::Error;
use crate::sample::{Sample, SharedSample};

/// The result of a load test: the latencies of all calls and the duration of the load test.
#[derive(Debug)]
pub struct Load {
    duration: Duration,
    /// The latency of each call: the time from the call to the server's response.
    pub times: Sample,
}

impl Load {
    /// Returns the result of a load test without calls. Fails only if the histogram of the latencies can't be created.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { duration: Duration::ZERO, times: Sample::new()? })
    }

    /// Returns the number of calls per second.
    pub fn calls_per_second(&self) -> f64 {
        self.times.len() as f64 / self.duration.as_secs_f64()
    }

    /// Adds the calls and the duration of a later round to this result.
    pub fn extend(&mut self, other: Self) {
        self.duration += other.duration;
        self.times.extend(&other.times);
    }
}

/// The condition under which a caller of a load test stops.
#[derive(Debug, Clone, Copy)]
pub enum StopCondition {
    /// Once this time has passed since the start of the load test, the caller stops.
    Time(Duration),
    /// Once the caller has made this number of calls, the caller stops.
    Calls(usize),
}

impl StopCondition {
    fn is_reached(self, started: Instant, calls: usize) -> bool {
        match self {
            Self::Time(time) => started.elapsed() >= time,
            Self::Calls(count) => calls >= count,
        }
    }
}

/// The call that each caller of a load test repeats.
pub trait RepeatedCall: Send + Sync + 'static {
    /// Makes one call as the caller with the number `caller`. Fails if the server rejects the call.
    fn call(&self, caller: usize) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Runs `callers` callers concurrently until every caller has stopped, and returns the latencies of the calls. Fails if
/// a call fails.
pub async fn run_closed_loop(
    repeated_call: &Arc<impl RepeatedCall>,
    stop_condition: StopCondition,
    callers: usize,
) -> Result<Load, Error> {
    let times = SharedSample::new()?;
    let mut loops = JoinSet::new();
    let started = Instant::now();
    for caller in 0..callers {
        let repeated_call = Arc::clone(repeated_call);
        let times = times.clone();
        loops.spawn(async move {
            let mut calls = 0;
            while !stop_condition.is_reached(started, calls) {
                let called = Instant::now();
                repeated_call.call(caller).await?;
                times.record(called.elapsed());
                calls += 1;
            }
            Ok(())
        });
    }
    join_all(loops).await?;
    Ok(Load { duration: started.elapsed(), times: times.snapshot() })
}

/// Waits until all Tokio tasks in `tasks` have ended. Fails with the error of the first failed Tokio task.
pub async fn join_all(mut tasks: JoinSet<Result<(), Status>>) -> Result<(), Error> {
    while let Some(joined) = tasks.join_next().await {
        joined??;
    }
    Ok(())
}

/// Connects to the server at `url` and returns the connection. `stream_window` is the flow-control window of each
/// stream, in bytes. Fails if `url` is not valid or the server can't be reached.
pub async fn connect(url: &str, stream_window: u32) -> Result<Channel, Error> {
    let url = if url.contains("://") || url.starts_with("unix:") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = Channel::from_shared(url.clone()).map_err(|_| Error::Address(url.clone()))?;
    let endpoint = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(stream_window.saturating_mul(16));
    endpoint.connect().await.map_err(|source| Error::Unreachable { url, source })
}

/// Flow-control window of a stream, in bytes. The window is large enough not to limit the rate in any result row.
pub const WIDE_WINDOW: u32 = 1024 * 1024;

/// Opens and returns `count` connections to the server at `url`. Fails if a connection fails.
pub async fn open_connections(url: &str, count: usize) -> Result<Vec<Channel>, Error> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(connect(url, WIDE_WINDOW).await?);
    }
    Ok(connections)
}

/// Returns the connection of a caller. If there are more callers than connections, several callers share a connection.
pub fn connection_for_caller(connections: &[Channel], caller: usize) -> Channel {
    connections[caller % connections.len()].clone()
}

/// The GetServerInfo calls that callers repeat. The server answers a GetServerInfo call without a read of the store, so
/// the rate of the calls is the highest rate that the network stack reaches.
pub struct EmptyCalls(pub Vec<Channel>);

impl RepeatedCall for EmptyCalls {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let mut server = ServerServiceClient::new(connection_for_caller(&self.0, caller));
        server.get_server_info(v1::GetServerInfoRequest {}).await.map(drop)
    }
}
