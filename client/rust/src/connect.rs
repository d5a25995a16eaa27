//! This module connects the client to a server.

use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::{Endpoint, Uri};

use crate::Error;
use crate::connections::{Connections, Target};

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

/// A client of one server. Clones of the client share the client's connections.
///
/// The client opens further connections for streams and for calls with a `wait`, at most 100 of them on each
/// connection, because a server limits the number of open calls and streams per connection.
///
/// The client retries a call with a temporary error for up to 30 s, as [`repeat_for`](crate::repeat_for) does. A
/// request's `wait` is added to this limit. If a mutating request has no `request_id`, the client sets a `request_id`
/// before the first call, so that the server makes the change only once.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) connections: Connections,
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
        let target = build_target(server)?;
        let first = target.connect().await?;
        Ok(Self { connections: Connections::new(first, target), deadline: Some(DEADLINE) })
    }

    /// Returns a client that connects when the first call is made. Accepts the same forms of address as
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// Fails if the address has none of the forms that `connect` accepts.
    pub fn connect_lazy(server: &str) -> Result<Self, Error> {
        let target = build_target(server)?;
        let first = target.connect_lazy();
        Ok(Self { connections: Connections::new(first, target), deadline: Some(DEADLINE) })
    }
}

impl Client {
    /// Returns a client on the same connections with the passed time limit for a call and all its retries.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Returns a client on the same connections that makes each call once, without a deadline. The client sends each
    /// request unchanged and adds no request_id.
    pub fn without_retry(mut self) -> Self {
        self.deadline = None;
        self
    }
}

/// Returns the target of the server's address, with the settings of all connections. Fails if the address is not valid.
fn build_target(server: &str) -> Result<Target, Error> {
    let (uri, socket) = parse_address(server).ok_or_else(|| Error::Address(server.to_owned()))?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_while_idle(true);
    Ok(Target { endpoint, socket })
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
