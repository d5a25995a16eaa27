//! The server: opens the store, listens, serves, and shuts down within the drain time whatever its clients do.

use std::future::Future;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::server::{Connected, TcpIncoming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::domain::time::Timestamp;
use crate::housekeeping;
use crate::rpc::admission::Admission;
use crate::rpc::{self, Hub, ShownEvent};
use crate::store::{OpenError, Store};
use crate::sweeper::{self, Sweeper};
use crate::wake::Waiters;
use crate::watch::Tail;

/// The most calls and streams that one connection may have open. A client that needs more opens another connection.
const STREAMS_PER_CONNECTION: u32 = 1024;

/// How many streams a client may cause the server to reset before the server closes the connection. hyper's default is
/// no limit.
const RESETS_PER_CONNECTION: usize = 256;

/// How often the server pings a connection. A client that vanishes is noticed after this interval and the timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long the server waits for the answer to a ping before it closes the connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The drain time that the store's closing is computed from, if `--drain` is shorter: a tenth of it lets the commit in
/// progress end.
const SHORTEST_CLOSE: Duration = Duration::from_secs(1);

/// Why a server did not start, or stopped serving.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ServeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("can't listen on {listen}: {cause}")]
    Listen { listen: Listen, cause: std::io::Error },
    #[error("{0}")]
    Broken(String),
}

/// A server that listens but does not serve yet.
pub struct Server {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    tail: Arc<Tail<ShownEvent>>,
    listener: Listener,
    config: Config,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket. Dropping it removes the file.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed the file already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Opens the database and listens.
    ///
    /// # Errors
    /// The database can't be opened, or the address can't be listened on.
    pub async fn bind(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ServeError> {
        let waiters = Arc::new(Waiters::default());
        let store = Store::open(&config.db, Arc::clone(&clock), waiters.listener())?;
        // Agents could not report while no server ran, so every live lease is extended before any is taken back (C3).
        sweeper::recover(&store, Timestamp::from_micros(0))
            .await
            .map_err(|cause| ServeError::Broken(cause.to_string()))?;
        let listener = listen(&config.listen).await;
        let listener = listener.map_err(|cause| ServeError::Listen { listen: config.listen.clone(), cause })?;
        let tail = Arc::new(rpc::tail_of(&store));
        Ok(Self { store, clock, waiters, tail, listener, config })
    }

    /// Returns the address that the server listens on. If the configuration asked for port 0, it has the real port.
    pub fn listens_on(&self) -> Listen {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().map_or(self.config.listen.clone(), Listen::Tcp),
            Listener::Unix(_, file) => Listen::Unix(file.0.clone()),
        }
    }

    /// Returns the held calls, for tests.
    pub fn waiters(&self) -> Arc<Waiters> {
        Arc::clone(&self.waiters)
    }

    /// Returns the tail, for tests.
    pub fn tail(&self) -> Arc<Tail<ShownEvent>> {
        Arc::clone(&self.tail)
    }

    /// Returns the store, for tests.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Serves until `shutdown` ends. Then it waits for open calls and streams to end, at most for the drain time.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { store, clock, waiters, tail, listener, config } = self;
        let (drain, draining) = watch::channel(false);
        let sweeper = Sweeper::new(store.clone(), Arc::clone(&clock), Arc::clone(&waiters));
        let housekeeping = housekeeping::run(store.clone(), Arc::clone(&clock), config.keep, draining.clone());
        let following = Arc::clone(&tail).follow(store.clone(), draining.clone());
        let hub = Hub::new(store.clone(), clock, waiters, tail, config.default_lease, draining.clone());
        let (health, routes) = routes(&hub).await?;
        let mut in_background = JoinSet::new();
        in_background.spawn(sweeper.run(draining.clone()));
        in_background.spawn(housekeeping);
        in_background.spawn(following);
        let mut serving = listener.serve(routes, draining);
        let served = tokio::select! {
            served = &mut serving => served,
            () = shutdown => {
                report(&health, ServingStatus::NotServing).await;
                drain.send_replace(true);
                let in_time = tokio::time::timeout(time_for_clients(config.drain), &mut serving).await;
                in_time.unwrap_or_else(|_| {
                    tracing::warn!("drain time is over: closing the connections that are still open");
                    Ok(())
                })
            }
        };
        drain.send_replace(true);
        // A transaction that is not committed by then has not been answered either, so nothing acknowledged is lost.
        if tokio::time::timeout(config.drain.max(SHORTEST_CLOSE) / 10, store.close()).await.is_err() {
            tracing::warn!("drain time is over: dropping the transactions that have not begun");
        }
        // Their work can wait for the next server, so it must not delay the shutdown.
        in_background.abort_all();
        served.map_err(|cause| ServeError::Broken(cause.to_string()))
    }
}

/// Returns the part of the drain time that clients get. The rest is for closing the store.
fn time_for_clients(drain: Duration) -> Duration {
    drain - drain / 10
}

/// Returns all services, with health and both versions of reflection.
async fn routes(hub: &Hub) -> Result<(HealthReporter, Routes), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let mut routes = RoutesBuilder::default();
    hub.add_to(&mut routes);
    routes.add_service(health_service);
    let broken = |cause: tonic_reflection::server::Error| ServeError::Broken(cause.to_string());
    routes.add_service(reflection().build_v1().map_err(broken)?);
    routes.add_service(reflection().build_v1alpha().map_err(broken)?);
    Ok((health, routes.routes()))
}

/// Returns the reflection service. It includes google/rpc/error_details.proto, so that grpcurl can print error details.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(runhub_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

async fn report(health: &HealthReporter, status: ServingStatus) {
    for service in Hub::SERVICES.iter().chain([&""]) {
        health.set_service_status(*service, status).await;
    }
}

type Serving = Pin<Box<dyn Future<Output = Result<(), tonic::transport::Error>> + Send>>;

impl Listener {
    /// Serves until the server drains, and then until every connection has ended.
    fn serve(self, routes: Routes, draining: watch::Receiver<bool>) -> Serving {
        match self {
            Self::Tcp(listener) => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                Box::pin(serve(routes, incoming, draining))
            }
            Self::Unix(listener, socket_file) => Box::pin(async move {
                let _socket_file = socket_file;
                serve(routes, UnixListenerStream::new(listener), draining).await
            }),
        }
    }
}

async fn serve<IO>(
    routes: Routes,
    incoming: impl Stream<Item = std::io::Result<IO>>,
    mut draining: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_local_error_reset_streams(Some(RESETS_PER_CONNECTION))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(rpc::trace::layer())
        .layer(Admission::default())
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            // An error means that the server has ended, which is handled like draining.
            let _ = draining.wait_for(|draining| *draining).await;
        })
        .await
}

async fn listen(on: &Listen) -> std::io::Result<Listener> {
    match on {
        Listen::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        Listen::Unix(path) => {
            remove_dead_socket(path).await;
            UnixListener::bind(path).map(|listener| Listener::Unix(listener, SocketFile(path.clone())))
        }
    }
}

/// Removes the socket file of a server that was killed: connections to it are refused. Any other file stays.
async fn remove_dead_socket(path: &Path) {
    if !std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return;
    }
    let connected = UnixStream::connect(path).await;
    if connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        let _ = std::fs::remove_file(path);
    }
}
