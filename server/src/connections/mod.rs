//! This module accepts connections and serves HTTP/2 on the connections. The server reads HTTP/1.1 only to refuse its
//! requests with an explanation. The module limits the number of connections, and closes the connections of clients
//! that use the server's resources without making calls or without reading.

mod accept;
mod activity;
mod frames;
mod metered;
mod open;
mod unread;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

pub use self::accept::{accept_tcp, accept_unix};
pub use self::activity::{Activity, OpenCall};
use self::metered::MeteredIo;
use self::open::OpenConnections;
use self::unread::CallExecutor;
pub use self::unread::record_part;
use crate::domain::limits;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Maximum number of streams per connection that a client may cause the server to reset. After this number, the server
/// closes the connection. The default of hyper is no limit.
const RESETS_PER_CONNECTION: usize = 256;

/// Interval at which the server pings a connection. The server detects an unreachable client after this interval plus
/// `KEEPALIVE_TIMEOUT`.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Maximum time that the server waits for the response to a ping. If no response arrives, the server closes the
/// connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of bytes of each response that wait in the buffers of HTTP/2. The default of hyper is 400 KiB.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// Maximum time in which a client must send the headers of an HTTP/1.1 request.
const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Minimum time between two searches for a connection to close, while no connection can be closed. Otherwise a client
/// that opens connections without pause would keep the server busy with searches.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// Serves connections until the server drains, and then until every connection has ended. `new_service` returns the
/// service for the calls of one connection.
pub async fn serve<IO, S, B>(
    incoming: impl Stream<Item = IO>,
    new_service: impl Fn(Arc<Activity>) -> S,
    max_connections: usize,
    draining: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut permits = ConnectionPermits::new(max_connections);
    let mut connections = JoinSet::new();
    let mut drain = pin!(wait_for_drain(draining.clone()));
    let mut incoming = Box::pin(incoming);
    loop {
        let io = tokio::select! {
            () = &mut drain => break,
            Some(_) = connections.join_next() => continue,
            accepted = incoming.next() => match accepted {
                Some(io) => io,
                None => break,
            },
        };
        let activity = Arc::<Activity>::default();
        if let Some(permit) = permits.take(&activity).await {
            let io = MeteredIo::new(io, Arc::clone(&activity));
            let service = new_service(Arc::clone(&activity));
            connections.spawn(serve_connection(io, service, activity, draining.clone(), permit));
        }
    }
    // Close the listener now, so that the system refuses new connections while the open connections end.
    drop(incoming);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until the client or the server closes it.
async fn serve_connection<IO, S, B>(
    io: MeteredIo<IO>,
    service: S,
    activity: Arc<Activity>,
    draining: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let builder = new_builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut close = pin!(activity.wait_for_close());
    let mut drain = pin!(wait_for_drain(draining));
    let mut is_draining = false;
    loop {
        tokio::select! {
            served = connection.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(error, "connection failed");
                }
                return;
            }
            reason = &mut close => {
                tracing::debug!(%reason, "closing a connection");
                return;
            }
            () = &mut drain, if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn new_builder() -> auto::Builder<CallExecutor> {
    let mut builder = auto::Builder::new(CallExecutor);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HTTP1_HEADER_TIMEOUT).keep_alive(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .max_local_error_reset_streams(RESETS_PER_CONNECTION)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

async fn wait_for_drain(mut draining: watch::Receiver<bool>) {
    // Ignore the error, which means that the server has shut down. Connections must end in this case too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// One permit for each open connection.
struct ConnectionPermits {
    max_connections: usize,
    permits: Arc<Semaphore>,
    open: OpenConnections,
    /// The time of the latest search that found no connection to close. After a connection was accepted, the value is
    /// None.
    refused_at: Option<Instant>,
}

impl ConnectionPermits {
    fn new(max_connections: usize) -> Self {
        let permits = Arc::new(Semaphore::new(max_connections));
        Self { max_connections, permits, open: OpenConnections::default(), refused_at: None }
    }

    /// Returns whether to search for a connection without an open call. A search reads the state of every connection.
    fn can_search(&self) -> bool {
        self.refused_at.is_none_or(|refused_at| refused_at.elapsed() >= SEARCH_INTERVAL)
    }

    /// Returns a permit for a new connection. If the maximum number of connections is open, closes a connection without
    /// an open call. Returns None if every connection has an open call. While the server refuses connections, the
    /// function searches at most every 100 ms.
    async fn take(&mut self, activity: &Arc<Activity>) -> Option<OwnedSemaphorePermit> {
        let mut permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        if permit.is_none() && self.can_search() && self.open.evict_oldest() {
            permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        }
        match (&permit, self.refused_at.is_some()) {
            (Some(_), true) => tracing::info!("accepting connections again"),
            (None, false) => tracing::warn!(
                max_connections = self.max_connections,
                "refusing new connections, because every connection has an open call: raise --max-connections"
            ),
            _ => {}
        }
        self.refused_at = self.refused_at.filter(|_| permit.is_none());
        if permit.is_none() && self.can_search() {
            self.refused_at = Some(Instant::now());
        }
        if permit.is_some() {
            self.open.add(activity, self.max_connections);
        }
        permit
    }
}
