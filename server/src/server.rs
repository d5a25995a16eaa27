//! This module starts the server, serves calls, and shuts the server down. Even if clients keep calls open, a shutdown
//! ends within the drain time, unless the disk is slow.

mod health;

use std::fs::Permissions;
use std::future::Future;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::connections;
use crate::error::Error;
use crate::housekeeping;
use crate::rpc::calls::{Calls, REFLECTION_BYTES};
use crate::rpc::snapshot::spool::Spool;
use crate::rpc::{self, EncodedEvent, Hub, Settings};
use crate::store::{Location, OpenError, RoleClaim, Store, StoreFailure, StoreState};
use crate::sweeper::{self, Sweeper};
use crate::wake::Waiters;
use crate::watch::Tail;

/// Minimum drain time for closing the store. The store gets a tenth of the drain time to end the commit in progress. If
/// `--drain` is shorter than this minimum, the store gets a tenth of this minimum.
const SHORTEST_CLOSE: Duration = Duration::from_secs(1);

/// Access mode of the unix socket. Only the owner may connect, because a program that connects may make every call.
const SOCKET_MODE: u32 = 0o600;

/// Maximum number of connections to the unix socket that wait until the server accepts them.
const SOCKET_BACKLOG: u32 = 1_024;
/// Maximum time after the drain time in which the server completes the database file on a slow disk. The write-ahead
/// log has at most 64 MiB, unless a program reads it for a long time.
const COMPLETION: Duration = Duration::from_secs(10);
/// Maximum time in which open calls and streams can get their last answers after the store has failed.
const FAILED_CLOSE: Duration = Duration::from_secs(1);

/// The reason why a server did not start or stopped serving.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ServeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("can't listen on {listen}: {cause} (pass another address with --listen)")]
    Listen { listen: Listen, cause: std::io::Error },
    #[error("the server ended because the database {store} can't be used any more: {cause}")]
    Store { store: String, cause: StoreFailure },
    #[error("{0}")]
    Broken(String),
}

/// A server that listens on its address but does not serve calls yet.
pub struct Server {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    tail: Arc<Tail<EncodedEvent>>,
    listener: Listener,
    config: Config,
    /// If the disk was full when the server started, so that the leases have not been extended yet, the value is false.
    has_extended_leases: bool,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket. Dropping the value removes the file.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Ignore the error, because another program may have removed the file already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Opens the database, extends the leases, listens on the configured address, and returns the server. If the disk
    /// is full, the server serves reads, and extends the leases when the disk has space.
    ///
    /// # Errors
    /// Fails if the database can't be opened or written, or if the server can't listen on the address.
    pub async fn bind(config: Config, clock: Arc<dyn Clock>) -> Result<Self, ServeError> {
        let waiters = Arc::new(Waiters::default());
        let store = Store::open_at(&config.store, Arc::clone(&clock), waiters.listener())?;
        store.until_listening().await;
        // Extend the leases before the sweeper expires any lease.
        let has_extended_leases = match sweeper::take_role(&store).await {
            Ok(_) => true,
            Err(Error::StoreFull) => false,
            Err(cause) => {
                return Err(ServeError::Broken(format!(
                    "can't extend the leases in the database {}: {cause}",
                    config.store
                )));
            }
        };
        let listener = match listen(&config.listen).await {
            Ok(listener) => listener,
            Err(cause) => {
                store.close().await;
                return Err(ServeError::Listen { listen: config.listen, cause });
            }
        };
        let tail = Arc::new(rpc::new_tail(&store));
        Ok(Self { store, clock, waiters, tail, listener, config, has_extended_leases })
    }

    /// Returns the address that the server listens on. If the configured port is 0, the address has the port that the
    /// system chose.
    pub fn listen_address(&self) -> Listen {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().map_or(self.config.listen.clone(), Listen::Tcp),
            Listener::Unix(_, file) => Listen::Unix(file.0.clone()),
        }
    }

    /// Returns the waiters, for use in tests.
    pub fn waiters(&self) -> Arc<Waiters> {
        Arc::clone(&self.waiters)
    }

    /// Returns the tail of the log, for use in tests.
    pub fn tail(&self) -> Arc<Tail<EncodedEvent>> {
        Arc::clone(&self.tail)
    }

    /// Returns the store, for use in tests.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Serves calls until `shutdown` completes. Then waits at most the drain time for open calls and streams to end. If
    /// the store fails, the server refuses all calls and ends within two seconds.
    ///
    /// # Errors
    /// Fails if the store has failed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { store, clock, waiters, tail, listener, config, has_extended_leases } = self;
        let (drain, draining) = watch::channel(false);
        let mut sweeper = Sweeper::new(store.clone(), Arc::clone(&clock), Arc::clone(&waiters));
        if !has_extended_leases {
            sweeper = sweeper.extending_leases_since(RoleClaim::ALL_TIMES);
        }
        let housekeeping = housekeeping::run(store.clone(), Arc::clone(&clock), config.keep, draining.clone());
        let following = Arc::clone(&tail).follow(store.clone(), draining.clone());
        let spool = Arc::new(Spool::new(spool_folder(&config.store), config.max_spool, config.max_spool_files));
        if let Some(address) = config.advertise.clone() {
            // Ignore the failure: the address is only for people, and the database can be away for a moment.
            let _ = store.advertise(address).await;
        }
        let settings = Settings { default_lease: config.default_lease, advertised: config.advertise };
        let hub = Hub::new(store.clone(), clock, waiters, tail, Arc::clone(&spool), settings, draining.clone());
        let (health, routes) = build_routes(&hub, &store).await?;
        let mut in_background = JoinSet::new();
        in_background.spawn(store.clone().keep_sweeper_role(draining.clone()));
        in_background.spawn(sweeper.run(draining.clone()));
        in_background.spawn(housekeeping);
        in_background.spawn(following);
        let calls = Calls::new(routes, config.max_buffered, spool);
        let serving = listener.serve(calls, config.max_connections, draining);
        let failing = health::follow(&health, &store, &config.store);
        serve_until_end(serving, failing, shutdown, &health, &drain, config.drain).await;
        // The background Tokio tasks must not delay the shutdown. The next server process performs the remaining
        // actions.
        in_background.abort_all();
        close(&store, config.drain).await;
        check_state(&store, &config.store)
    }
}

/// Serves calls until `shutdown` completes or the store fails, and then until all connections have ended, but at most
/// for the part of the drain time for calls. Sets the health status and `drain` at the end.
async fn serve_until_end(
    serving: impl Future<Output = ()>,
    failing: impl Future<Output = StoreFailure>,
    shutdown: impl Future<Output = ()>,
    health: &HealthReporter,
    drain: &watch::Sender<bool>,
    drain_time: Duration,
) {
    // Dropping the future closes the connections.
    let mut serving = Box::pin(serving);
    tokio::select! {
        () = &mut serving => {}
        _ = failing => {
            drain.send_replace(true);
            // Ignore the result, because connections that are still open after this time are closed.
            let _ = tokio::time::timeout(FAILED_CLOSE, &mut serving).await;
        }
        () = shutdown => {
            health::set(health, ServingStatus::NotServing).await;
            drain.send_replace(true);
            if tokio::time::timeout(compute_drain_time_for_calls(drain_time), &mut serving).await.is_err() {
                tracing::warn!("drain time has passed: closing the connections that are still open");
            }
        }
    }
    drain.send_replace(true);
}

/// Closes the store. Stops after a time, so that a slow disk can't hold the process.
async fn close(store: &Store, drain: Duration) {
    let mut closing = Box::pin(store.close());
    if tokio::time::timeout(drain.max(SHORTEST_CLOSE) / 10, &mut closing).await.is_ok() {
        return;
    }
    if store.queued_calls() > 0 {
        // The server has not answered a call whose transaction is not committed, so no acknowledged write is lost.
        tracing::warn!("drain time has passed: dropping the transactions that have not started");
        store.abandon_queue();
    }
    let has_failed = matches!(*store.state().borrow(), StoreState::Failed(_));
    if has_failed || tokio::time::timeout(COMPLETION, closing).await.is_err() {
        tracing::warn!("the newest commits stay in the write-ahead log: keep the log with the database");
    }
}

/// Fails if the store has failed.
fn check_state(store: &Store, location: &Location) -> Result<(), ServeError> {
    match store.state().borrow().clone() {
        StoreState::Failed(cause) => Err(ServeError::Store { store: location.to_string(), cause }),
        StoreState::Writable | StoreState::Full { .. } | StoreState::Unreachable => Ok(()),
    }
}

/// Returns the folder for temporary files: the folder of the database file, or the folder for temporary files of the
/// system if the database is not a file.
fn spool_folder(store: &Location) -> PathBuf {
    match store {
        Location::Postgres(_) => std::env::temp_dir(),
        Location::File(db) => match db.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        },
    }
}

/// Returns the part of the drain time for open calls: nine tenths. The remaining tenth is for closing the store.
fn compute_drain_time_for_calls(drain: Duration) -> Duration {
    drain - drain / 10
}

/// Returns the health reporter and the routes of all services, including health and the versions v1 and v1alpha of
/// reflection.
async fn build_routes(hub: &Hub, store: &Store) -> Result<(HealthReporter, Routes), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let status = health::status_of(&store.state().borrow());
    health::set(&health, status).await;
    let mut routes = RoutesBuilder::default();
    hub.add_to(&mut routes);
    routes.add_service(health_service);
    let broken = |cause: tonic_reflection::server::Error| ServeError::Broken(cause.to_string());
    let v1 = new_reflection_service().build_v1().map_err(broken)?;
    let v1alpha = new_reflection_service().build_v1alpha().map_err(broken)?;
    routes.add_service(v1.max_decoding_message_size(REFLECTION_BYTES));
    routes.add_service(v1alpha.max_decoding_message_size(REFLECTION_BYTES));
    Ok((health, routes.routes()))
}

/// Returns the reflection service. The service includes google/rpc/error_details.proto, because grpcurl needs this file
/// to print error details.
fn new_reflection_service() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(runhub_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

impl Listener {
    /// Serves calls until the server drains, and then until every connection has ended.
    async fn serve(self, calls: Calls, max_connections: usize, draining: watch::Receiver<bool>) {
        let new_service = |activity| calls.for_connection(activity);
        match self {
            Self::Tcp(listener) => {
                connections::serve(connections::accept_tcp(listener), new_service, max_connections, draining).await;
            }
            Self::Unix(listener, _socket_file) => {
                connections::serve(connections::accept_unix(listener), new_service, max_connections, draining).await;
            }
        }
    }
}

async fn listen(on: &Listen) -> std::io::Result<Listener> {
    match on {
        Listen::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        Listen::Unix(path) => {
            remove_dead_socket(path).await;
            bind_unix(path).map(|listener| Listener::Unix(listener, SocketFile(path.clone())))
        }
    }
}

/// Listens on a unix socket that only the owner can connect to. No program can connect before the access mode is set,
/// because the socket does not listen yet.
fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(SOCKET_BACKLOG)
}

/// Removes the socket file of a server that was killed. Such a socket refuses connections. Leaves any other file
/// unchanged.
async fn remove_dead_socket(path: &Path) {
    if !std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return;
    }
    let connected = UnixStream::connect(path).await;
    if connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        let _ = std::fs::remove_file(path);
    }
}
