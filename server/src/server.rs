//! The server as a whole: opens the store, listens, and shuts down in time whatever its clients do.

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

/// Calls and streams one connection may have open. A client that wants more opens a second connection.
const STREAMS_PER_CONNECTION: u32 = 1024;

/// Streams a client may make us reset before the connection is closed; hyper's own default is no limit.
const RESETS_PER_CONNECTION: usize = 256;

/// How soon a client that is gone without a word is noticed: the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A drain time of 0 still lets the commit under way end: a tenth of this.
const SHORTEST_CLOSE: Duration = Duration::from_secs(1);

/// Why a server did not start, or broke off.
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

/// A server that listens and does not serve yet.
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

/// Removed when the server is gone.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Opens the database and begins to listen.
    ///
    /// # Errors
    /// The database can't be opened, or the address can't be listened on.
    pub async fn bind(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ServeError> {
        let waiters = Arc::new(Waiters::default());
        let store = Store::open(&config.db, Arc::clone(&clock), waiters.listener())?;
        // Nobody could report while there was no server: leases live on for a while before the first is taken back.
        sweeper::recover(&store, Timestamp::from_micros(0))
            .await
            .map_err(|cause| ServeError::Broken(cause.to_string()))?;
        let listener = listen(&config.listen).await;
        let listener = listener.map_err(|cause| ServeError::Listen { listen: config.listen.clone(), cause })?;
        let tail = Arc::new(rpc::tail_of(&store));
        Ok(Self { store, clock, waiters, tail, listener, config })
    }

    /// Where it listens: with the port it was given, if it asked for any.
    pub fn listens_on(&self) -> Listen {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().map_or(self.config.listen.clone(), Listen::Tcp),
            Listener::Unix(_, file) => Listen::Unix(file.0.clone()),
        }
    }

    /// Who waits for what.
    pub fn waiters(&self) -> Arc<Waiters> {
        Arc::clone(&self.waiters)
    }

    /// What those who watch live are shown.
    pub fn tail(&self) -> Arc<Tail<ShownEvent>> {
        Arc::clone(&self.tail)
    }

    /// Where it keeps everything.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Serves until `shutdown`, and then for as long as open calls and streams take to end, at most the drain time.
    ///
    /// # Errors
    /// Listening broke off.
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
                    tracing::warn!("the drain time is over: closing what is still open");
                    Ok(())
                })
            }
        };
        drain.send_replace(true);
        // What is not committed by then was not answered either.
        if tokio::time::timeout(config.drain.max(SHORTEST_CLOSE) / 10, store.close()).await.is_err() {
            tracing::warn!("the drain time is over: leaving what the store has not begun");
        }
        // What they do can wait for the next server; it must not hold this one.
        in_background.abort_all();
        served.map_err(|cause| ServeError::Broken(cause.to_string()))
    }
}

/// What is left of the drain time is for the store.
fn time_for_clients(drain: Duration) -> Duration {
    drain - drain / 10
}

/// All services, with health and both versions of reflection.
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

/// With google/rpc/error_details.proto, so that grpcurl shows the details of errors as text.
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
    /// Serves until told to drain, and then until every connection has ended.
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
        .layer(Admission::default())
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            // An error means that the server is gone: the same.
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

/// A server that was killed leaves its socket file: nobody answers there any more. Whatever else is there stays.
async fn remove_dead_socket(path: &Path) {
    if !std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return;
    }
    let connected = UnixStream::connect(path).await;
    if connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        let _ = std::fs::remove_file(path);
    }
}
