//! Connecting to a server.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the connection is checked, so that a server that has disappeared is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How many bytes of a stream the client buffers before the reader takes them.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// How many bytes of all streams of a connection the client buffers. It is large, because streams that nobody reads would
/// otherwise block the calls on the same connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024 * 1024;

/// The default time for all tries of a call.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to a server. Clones share it.
///
/// A call that fails for a temporary reason is repeated for 30 s, as [`repeat_for`](crate::repeat_for) does; a request's
/// `wait` is added to this deadline. A mutating request without a `request_id` gets one before its first try, so that the
/// server carries out the change once.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) channel: Channel,
    /// The time for all tries of a call. None means that each call is made once and unchanged.
    pub(crate) deadline: Option<Duration>,
}

impl Client {
    /// Connects to the server at `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`. If the connection breaks later, the next
    /// call reconnects.
    ///
    /// # Errors
    /// Fails if the address has none of these forms, or if no server answers there.
    pub async fn connect(server: &str) -> Result<Self, Error> {
        let channel = match target(server)? {
            (endpoint, Some(path)) => endpoint.connect_with_connector(to_unix_socket(path)).await?,
            (endpoint, None) => endpoint.connect().await?,
        };
        Ok(Self { channel, deadline: Some(DEADLINE) })
    }

    /// Returns a client that connects when the first call is made. Takes the same addresses as [`connect`](Self::connect).
    ///
    /// # Errors
    /// Fails if the address has none of the valid forms.
    pub fn connect_lazy(server: &str) -> Result<Self, Error> {
        let channel = match target(server)? {
            (endpoint, Some(path)) => endpoint.connect_with_connector_lazy(to_unix_socket(path)),
            (endpoint, None) => endpoint.connect_lazy(),
        };
        Ok(Self { channel, deadline: Some(DEADLINE) })
    }
}

impl Client {
    /// Returns a client on the same connection with another time limit for all tries of a call.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Returns a client on the same connection that makes each call once and unchanged: without a deadline, and without
    /// adding a request_id.
    pub fn without_retry(mut self) -> Self {
        self.deadline = None;
        self
    }
}

/// Returns the endpoint to connect to, and the path if the address is a unix socket.
fn target(server: &str) -> Result<(Endpoint, Option<PathBuf>), Error> {
    let (uri, path) = parse(server).ok_or_else(|| Error::Address(server.to_owned()))?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_while_idle(true);
    Ok((endpoint, path))
}

fn parse(server: &str) -> Option<(Uri, Option<PathBuf>)> {
    if let Some(path) = server.strip_prefix("unix:") {
        // HTTP/2 requires a host name; the server does not use it.
        let uri = Uri::from_static("http://localhost");
        return (!path.is_empty()).then(|| (uri, Some(PathBuf::from(path))));
    }
    let address = server.strip_prefix("http://").unwrap_or(server);
    let uri: Uri = format!("http://{address}").parse().ok()?;
    (uri.port_u16().is_some() && uri.path() == "/" && uri.query().is_none()).then_some((uri, None))
}

fn to_unix_socket(
    path: PathBuf,
) -> impl tower::Service<Uri, Response = TokioIo<UnixStream>, Error = std::io::Error, Future: Send> + Send + 'static {
    service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    })
}
