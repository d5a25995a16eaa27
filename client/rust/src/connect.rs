//! This module connects the client to a server.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two keepalive pings. Without pings, the client would not notice that a server has disappeared.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Number of unread bytes that the client buffers for each stream.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Number of unread bytes that the client buffers for all streams of a connection together. The number is large,
/// because streams that nobody reads would otherwise block the calls on the same connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024 * 1024;

/// Default time limit for a call and all its retries.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to a server. Clones of the client share the connection.
///
/// The client retries a call with a temporary error for up to 30 s, as [`repeat_for`](crate::repeat_for) does. A
/// request's `wait` is added to this limit. If a mutating request has no `request_id`, the client sets a `request_id`
/// before the first call, so that the server makes the change only once.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) channel: Channel,
    /// Time limit for a call and all its retries. If the client makes each call once and sends the request unchanged,
    /// the value is None.
    pub(crate) deadline: Option<Duration>,
}

impl Client {
    /// Connects to the server at `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`, and returns the client. If the
    /// connection breaks later, the client reconnects at the next call.
    ///
    /// # Errors
    /// Fails if the address does not have the form `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`, or if no server
    /// answers at the address.
    pub async fn connect(server: &str) -> Result<Self, Error> {
        let channel = match build_endpoint(server)? {
            (endpoint, Some(path)) => endpoint.connect_with_connector(unix_socket_connector(path)).await?,
            (endpoint, None) => endpoint.connect().await?,
        };
        Ok(Self { channel, deadline: Some(DEADLINE) })
    }

    /// Returns a client that connects when the first call is made. Accepts the same forms of address as
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// Fails if the address has none of the forms that `connect` accepts.
    pub fn connect_lazy(server: &str) -> Result<Self, Error> {
        let channel = match build_endpoint(server)? {
            (endpoint, Some(path)) => endpoint.connect_with_connector_lazy(unix_socket_connector(path)),
            (endpoint, None) => endpoint.connect_lazy(),
        };
        Ok(Self { channel, deadline: Some(DEADLINE) })
    }
}

impl Client {
    /// Returns a client on the same connection with the passed time limit for a call and all its retries.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Returns a client on the same connection that makes each call once, without a deadline. The client sends each
    /// request unchanged and adds no request_id.
    pub fn without_retry(mut self) -> Self {
        self.deadline = None;
        self
    }
}

/// Returns the endpoint of the server. If the address names a Unix socket, the function also returns the path of the
/// socket. Fails if the address is not valid.
fn build_endpoint(server: &str) -> Result<(Endpoint, Option<PathBuf>), Error> {
    let (uri, path) = parse_address(server).ok_or_else(|| Error::Address(server.to_owned()))?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_while_idle(true);
    Ok((endpoint, path))
}

fn parse_address(server: &str) -> Option<(Uri, Option<PathBuf>)> {
    if let Some(path) = server.strip_prefix("unix:") {
        // HTTP/2 requires a host name. The server ignores this host name.
        let uri = Uri::from_static("http://localhost");
        return (!path.is_empty()).then(|| (uri, Some(PathBuf::from(path))));
    }
    let address = server.strip_prefix("http://").unwrap_or(server);
    let uri: Uri = format!("http://{address}").parse().ok()?;
    (uri.port_u16().is_some() && uri.path() == "/" && uri.query().is_none()).then_some((uri, None))
}

fn unix_socket_connector(
    path: PathBuf,
) -> impl tower::Service<Uri, Response = TokioIo<UnixStream>, Error = std::io::Error, Future: Send> + Send + 'static {
    service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    })
}
