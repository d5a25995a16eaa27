//! Callers in a closed loop: each makes its next call when the one before is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::server_service_client::ServerServiceClient;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::Error;
use crate::sample::{Sample, SharedSample};

/// The calls that a number of callers made.
#[derive(Debug)]
pub struct Load {
    duration: Duration,
    /// The time of each call.
    pub times: Sample,
}

impl Load {
    /// Returns a load without calls.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { duration: Duration::ZERO, times: Sample::new()? })
    }

    /// Returns the rate of the calls.
    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.duration.as_secs_f64()
    }

    /// Adds the calls of a later round.
    pub fn extend(&mut self, other: Self) {
        self.duration += other.duration;
        self.times.extend(&other.times);
    }
}

/// The condition under which a caller stops.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After this time since the start of the load.
    Time(Duration),
    /// After this number of its own calls.
    Calls(usize),
}

impl Until {
    fn is_reached(self, started: Instant, calls: usize) -> bool {
        match self {
            Self::Time(time) => started.elapsed() >= time,
            Self::Calls(count) => calls >= count,
        }
    }
}

/// The call that callers repeat.
pub trait Work: Send + Sync + 'static {
    /// Makes one call for the caller with this number.
    fn call(&self, caller: usize) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Runs `callers` callers at once until each has stopped.
pub async fn closed_loop(work: &Arc<impl Work>, until: Until, callers: usize) -> Result<Load, Error> {
    let times = SharedSample::new()?;
    let mut loops = JoinSet::new();
    let started = Instant::now();
    for caller in 0..callers {
        let work = Arc::clone(work);
        let times = times.clone();
        loops.spawn(async move {
            let mut calls = 0;
            while !until.is_reached(started, calls) {
                let called = Instant::now();
                work.call(caller).await?;
                times.record(called.elapsed());
                calls += 1;
            }
            Ok(())
        });
    }
    join_all(loops).await?;
    Ok(Load { duration: started.elapsed(), times: times.snapshot() })
}

/// Waits for all tasks. Fails with the first failure.
pub async fn join_all(mut tasks: JoinSet<Result<(), Status>>) -> Result<(), Error> {
    while let Some(joined) = tasks.join_next().await {
        joined??;
    }
    Ok(())
}

/// Connects at once. `stream_window` is the flow-control window of each stream, in bytes.
pub async fn connect(url: &str, stream_window: u32) -> Result<Channel, Error> {
    let url = if url.contains("://") || url.starts_with("unix:") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = Channel::from_shared(url).map_err(|error| Error::Address(error.to_string()))?;
    let endpoint = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(stream_window.saturating_mul(16));
    Ok(endpoint.connect().await?)
}

/// A stream window that is large enough not to slow any row down, in bytes.
pub const WIDE_WINDOW: u32 = 1024 * 1024;

/// Makes `count` connections.
pub async fn connections(url: &str, count: usize) -> Result<Vec<Channel>, Error> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(connect(url, WIDE_WINDOW).await?);
    }
    Ok(connections)
}

/// Returns the connection of a caller. Callers share connections if there are more callers.
pub fn connection_of(connections: &[Channel], caller: usize) -> Channel {
    connections[caller % connections.len()].clone()
}

/// GetServerInfo, which does no work: the highest rate that the network stack reaches.
pub struct EmptyCalls(pub Vec<Channel>);

impl Work for EmptyCalls {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let mut server = ServerServiceClient::new(connection_of(&self.0, caller));
        server.get_server_info(v1::GetServerInfoRequest {}).await.map(drop)
    }
}
