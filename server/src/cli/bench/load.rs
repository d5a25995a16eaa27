//! Callers in a closed loop, and what they get done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::server_service_client::ServerServiceClient;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use super::sample::Sample;
use crate::cli::Failure;

/// What a number of callers got done.
#[derive(Debug, Default)]
pub struct Load {
    took: Duration,
    /// How long each took.
    pub times: Sample,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// Takes in another turn of the same.
    pub fn extend(&mut self, other: Self) {
        self.took += other.took;
        self.times.extend(other.times);
    }
}

/// When a caller has done enough.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// So much time is over.
    Time(Duration),
    /// It has made so many calls.
    Calls(usize),
}

impl Until {
    fn is_reached(self, begun: Instant, calls: usize) -> bool {
        match self {
            Self::Time(time) => begun.elapsed() >= time,
            Self::Calls(enough) => calls >= enough,
        }
    }
}

/// What callers do, again and again.
pub trait Work: Send + Sync + 'static {
    /// Once, by a caller who has a number.
    fn call(&self, caller: usize) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Lets so many callers make their next call when the one before is answered.
pub async fn closed_loop(work: &Arc<impl Work>, until: Until, callers: usize) -> Result<Load, Failure> {
    let (begun, mut loops, mut times) = (Instant::now(), JoinSet::new(), Sample::default());
    for caller in 0..callers {
        let work = Arc::clone(work);
        loops.spawn(async move {
            let mut times = Sample::default();
            while !until.is_reached(begun, times.len()) {
                let called = Instant::now();
                work.call(caller).await?;
                times.add(called.elapsed());
            }
            Ok(times)
        });
    }
    while let Some(done) = loops.join_next().await {
        times.extend(joined(done)?);
    }
    Ok(Load { took: begun.elapsed(), times })
}

/// What a task came to.
pub fn joined<T>(done: Result<Result<T, Status>, tokio::task::JoinError>) -> Result<T, Failure> {
    let done = done.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(done.map_err(runhub_client::Error::from)?)
}

/// A connection that is made now, with so large a window for each stream.
pub async fn connect(url: &str, stream_window: u32) -> Result<Channel, Failure> {
    let url = if url.contains("://") || url.starts_with("unix:") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = Channel::from_shared(url).map_err(|error| Failure::usage(error.to_string()))?;
    let endpoint = endpoint.tcp_nodelay(true).initial_stream_window_size(stream_window);
    let endpoint = endpoint.initial_connection_window_size(stream_window.saturating_mul(16));
    endpoint.connect().await.map_err(|error| Failure::failed(error.to_string()))
}

/// A stream's window where nothing is to be held up by it.
pub const WIDE: u32 = 1024 * 1024;

/// So many of them.
pub async fn connections(url: &str, count: usize) -> Result<Vec<Channel>, Failure> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(connect(url, WIDE).await?);
    }
    Ok(connections)
}

/// The connection of a caller, who may share it with others.
pub fn of_caller(connections: &[Channel], caller: usize) -> Channel {
    connections[caller % connections.len()].clone()
}

/// The call that does nothing: as fast as this stack gets.
pub struct EmptyCalls(pub Vec<Channel>);

impl Work for EmptyCalls {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let mut server = ServerServiceClient::new(of_caller(&self.0, caller));
        server.get_server_info(v1::GetServerInfoRequest {}).await.map(drop)
    }
}
