//! Finding the server.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How soon a server that is gone without a word is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How much of a stream is taken ahead of its reader.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// The same of all streams of a connection: so much that those nobody reads don't hold up the calls beside them.
const CONNECTION_WINDOW: u32 = 1024 * 1024 * 1024;

/// How long a call may take with all its tries, unless told otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to a server. Clones share it.
///
/// A call that can't be answered for now is made again until its deadline, 30 s, as [`repeat_for`](crate::repeat_for)
/// does; a request's `wait` comes on top. What changes something gets a `request_id` first, unless it has one, so that it
/// happens once.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) channel: Channel,
    /// None: every call is made once, as it is.
    pub(crate) deadline: Option<Duration>,
}

impl Client {
    /// Connects to `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`. Later calls reconnect by themselves.
    ///
    /// # Errors
    /// The address is none of these, or nobody answers there.
    pub async fn connect(server: &str) -> Result<Self, Error> {
        let channel = match target(server)? {
            (endpoint, Some(path)) => endpoint.connect_with_connector(to_unix_socket(path)).await?,
            (endpoint, None) => endpoint.connect().await?,
        };
        Ok(Self { channel, deadline: Some(DEADLINE) })
    }

    /// As `connect`, but connects with the first call, which then fails if nobody answers.
    ///
    /// # Errors
    /// The address is none of those that `connect` takes.
    pub fn connect_lazy(server: &str) -> Result<Self, Error> {
        let channel = match target(server)? {
            (endpoint, Some(path)) => endpoint.connect_with_connector_lazy(to_unix_socket(path)),
            (endpoint, None) => endpoint.connect_lazy(),
        };
        Ok(Self { channel, deadline: Some(DEADLINE) })
    }
}

impl Client {
    /// The same connection; a call may take this long with all its tries.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The same connection, but every call is made once, as it is: without a deadline, and without a request_id of the
    /// client's.
    pub fn without_retry(mut self) -> Self {
        self.deadline = None;
        self
    }
}

/// How to connect, and the path if it is a unix socket.
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
        // HTTP needs a host, though nobody looks at it.
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
