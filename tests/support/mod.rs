//! Shared by the tests: a server on a free port, the real binary, the oracle, and short forms of common calls.

#![allow(dead_code)] // Each of the two test targets uses only a part.

pub mod binary;
pub mod breaking_proxy;
pub mod calls;
pub mod database;
pub mod dump;
pub mod faults;
pub mod fleet;
pub mod oracle;
pub mod random;
pub mod record;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runhub_client::Client;
use runhub_client::v1::SubscribeEventsRequest;
use runhub_server::clock::ManualClock;
use runhub_server::config::{self, Config, Listen};
use runhub_server::domain::time::Timestamp;
use runhub_server::housekeeping::RetentionTimes;
use runhub_server::rpc::EncodedEvent;
use runhub_server::server::{ServeError, Server};
use runhub_server::store::{JobOptions, OpenError, Store, Tx};
use runhub_server::wake::Waiters;
use runhub_server::watch::Tail;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::database::TestDatabase;
use self::record::Watcher;
use tonic::transport::Channel;

/// A server in this process with a real socket, and a clock that stands still until the test moves it.
pub struct TestServer {
    pub client: Client,
    pub url: String,
    pub clock: ManualClock,
    folder: TempDir,
    waiters: Arc<Waiters>,
    tail: Arc<Tail<EncodedEvent>>,
    store: Store,
    shutdown: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

/// Starts a server. If the previous server of this process could not close the database within its drain time, waits
/// until the database is closed.
async fn bind(config: Config, clock: &ManualClock) -> Server {
    let begun = std::time::Instant::now();
    loop {
        match Server::bind(config.clone(), Arc::new(clock.clone())).await {
            Ok(server) => return server,
            Err(ServeError::Open(OpenError::InUse(_))) if begun.elapsed() < Duration::from_secs(20) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Self::clock()).await
    }

    /// Starts a server that removes events after `events_for`, and archives all events for the oracle.
    pub async fn start_keeping(events_for: Duration) -> Self {
        Self::start_archiving(Some(events_for)).await
    }

    /// Starts a server, and archives for the oracle all events, also those that retention and deletions remove.
    pub async fn start_archiving(events_for: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        record::archive_events(&TestDatabase::in_folder(folder.path())).await;
        Self::start_with(folder, Self::clock(), events_for).await
    }

    fn clock() -> ManualClock {
        ManualClock::starting_at(Timestamp::from_seconds_and_nanos(1_800_000_000, 0).unwrap())
    }

    pub async fn start_in(folder: TempDir, clock: ManualClock) -> Self {
        Self::start_with(folder, clock, None).await
    }

    async fn start_with(folder: TempDir, clock: ManualClock, events_for: Option<Duration>) -> Self {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            store: TestDatabase::in_folder(folder.path()).location(),
            advertise: None,
            drain: Duration::from_secs(5),
            keep: RetentionTimes { requests_for: Duration::from_secs(24 * 3600), events_for },
            default_lease: Duration::from_secs(600),
            max_connections: config::DEFAULT_MAX_CONNECTIONS,
            max_buffered: config::DEFAULT_MAX_BUFFERED,
            max_spool: config::DEFAULT_MAX_SPOOL,
            max_spool_files: config::DEFAULT_MAX_SPOOL_FILES,
        };
        let server = bind(config, &clock).await;
        let Listen::Tcp(address) = server.listen_address() else { panic!("the server must listen on TCP") };
        let waiters = server.waiters();
        let tail = server.tail();
        let store = server.store();
        let (shutdown, asked) = oneshot::channel();
        let running = tokio::spawn(async move {
            let asked = async { drop(asked.await) };
            server.run(asked).await.unwrap();
        });
        let url = format!("http://{address}");
        let client = Client::connect(&url).await.unwrap().without_retry();
        Self { client, url, clock, folder, waiters, tail, store, shutdown, running }
    }

    /// Waits until the server holds `count` claims.
    pub async fn until_claims_wait(&self, count: usize) {
        until(|| async { self.waiters.claims.waiter_count() == count }).await;
    }

    /// Waits until the server holds `count` calls that wait for a decision.
    pub async fn until_approvals_wait(&self, count: usize) {
        until(|| async { self.waiters.approvals.waiter_count() == count }).await;
    }

    /// Waits until a call or a stream waits for events.
    pub async fn until_reader_waits(&self) {
        until(|| async { self.tail.has_waiters() }).await;
    }

    /// Returns the server's address as HOST:PORT.
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// Returns the server's store.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Returns the server's database.
    pub fn db(&self) -> TestDatabase {
        TestDatabase::in_folder(self.folder.path())
    }

    /// Returns the path of the server's database file.
    pub fn db_file(&self) -> PathBuf {
        self.folder.path().join("runhub.db")
    }

    /// Subscribes with a watcher that hands its messages to the oracle when it is dropped.
    pub fn watch(&self, request: SubscribeEventsRequest) -> Watcher {
        Watcher::new(&self.client, self.db(), request)
    }

    /// Opens another connection, for tests in which a shared one would be a bottleneck.
    pub async fn connect(&self) -> Client {
        Client::connect(&self.url).await.unwrap().without_retry()
    }

    /// Shuts the server down and waits until it has ended. Returns its folder.
    pub async fn stop(self) -> TempDir {
        // The file's lock is released with the last handle of the store.
        drop((self.client, self.store));
        let _ = self.shutdown.send(());
        self.running.await.unwrap();
        self.folder
    }

    /// Starts another server on the same database.
    pub async fn restart(self) -> Self {
        let clock = self.clock.clone();
        Self::start_in(self.stop().await, clock).await
    }
}

/// Prints the figures of a long test to stderr, because cargo shows stdout only for failed tests.
pub fn print_figures(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How long a test waits for a condition or a call. Far longer than any takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Polls a condition until it is true. Fails after `TIMEOUT`.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let result = tokio::time::timeout(TIMEOUT, polling).await;
    assert!(result.is_ok(), "the condition was not true within {TIMEOUT:?}");
}

/// Time between two statements of a transaction that keeps the writer busy.
const HELD_WRITER_INTERVAL: Duration = Duration::from_millis(200);

/// Keeps the writer busy until the returned sender is used. Returns after the writer has begun the transaction.
pub async fn block_writer(store: Store, options: JobOptions) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (release, wait) = mpsc::channel();
    let (entered, inside) = oneshot::channel();
    let wait = Mutex::new(wait);
    let entered = Mutex::new(Some(entered));
    let held = tokio::spawn(async move {
        let body = move |tx: &mut dyn Tx| {
            entered.lock().unwrap().take().map(|entered| entered.send(()));
            // PostgreSQL ends a transaction in which it hears nothing for a second.
            loop {
                match wait.lock().unwrap().recv_timeout(HELD_WRITER_INTERVAL) {
                    Err(RecvTimeoutError::Timeout) => {
                        tx.query("SELECT 1", &[], &mut |_| Ok(ControlFlow::Continue(())))?;
                    }
                    released => {
                        released.unwrap();
                        return Ok(());
                    }
                }
            }
        };
        store.transact_with(options, body).await.unwrap();
    });
    inside.await.unwrap();
    (release, held)
}

/// Opens a connection without the Rust client around it.
pub async fn channel(url: &str) -> Channel {
    Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap()
}

/// Awaits a future. Fails if it takes longer than `TIMEOUT`.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(TIMEOUT, future).await.expect("the call did not end in time")
}

/// Returns the folder with recorded work that `RUNHUB_REAL_WORK` names, or None if the variable is not set.
pub fn real_work() -> Option<PathBuf> {
    std::env::var_os("RUNHUB_REAL_WORK").map(PathBuf::from).inspect(|folder| assert!(folder.is_dir(), "{folder:?}"))
}

/// Returns the root of the checkout.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
