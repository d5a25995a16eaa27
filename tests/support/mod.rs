//! What the tests share: a server on a free port, the real binary, and short forms of common calls.

#![allow(dead_code)] // Each of the two test targets uses its part.

pub mod binary;
pub mod calls;
pub mod dump;
pub mod oracle;
pub mod random;
pub mod record;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runhub_client::Client;
use runhub_client::v1::SubscribeEventsRequest;
use runhub_server::clock::ManualClock;
use runhub_server::config::{Config, Listen};
use runhub_server::domain::time::Timestamp;
use runhub_server::housekeeping::Keep;
use runhub_server::rpc::ShownEvent;
use runhub_server::server::Server;
use runhub_server::store::Store;
use runhub_server::wake::Waiters;
use runhub_server::watch::Tail;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::record::Watcher;
use tonic::transport::Channel;

/// A server in this process, over a real socket, with a clock that stands still until it is moved.
pub struct TestServer {
    pub client: Client,
    pub url: String,
    pub clock: ManualClock,
    folder: TempDir,
    waiters: Arc<Waiters>,
    tail: Arc<Tail<ShownEvent>>,
    store: Store,
    shutdown: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Self::clock()).await
    }

    /// One that keeps events for some time only.
    pub async fn start_keeping(events_for: Duration) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), Self::clock(), Some(events_for)).await
    }

    fn clock() -> ManualClock {
        ManualClock::at(Timestamp::from_seconds_and_nanos(1_800_000_000, 0).unwrap())
    }

    pub async fn start_in(folder: TempDir, clock: ManualClock) -> Self {
        Self::start_with(folder, clock, None).await
    }

    async fn start_with(folder: TempDir, clock: ManualClock, events_for: Option<Duration>) -> Self {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            db: folder.path().join("runhub.db"),
            drain: Duration::from_secs(5),
            keep: Keep { requests_for: Duration::from_secs(24 * 3600), events_for },
            default_lease: Duration::from_secs(600),
        };
        let server = Server::bind(config, Arc::new(clock.clone())).await.unwrap();
        let Listen::Tcp(address) = server.listens_on() else { panic!("it listens on TCP") };
        let (waiters, tail, store) = (server.waiters(), server.tail(), server.store());
        let (shutdown, asked) = oneshot::channel();
        let running = tokio::spawn(async move {
            let asked = async { drop(asked.await) };
            server.run(asked).await.unwrap();
        });
        let url = format!("http://{address}");
        let client = Client::connect(&url).await.unwrap().without_retry();
        Self { client, url, clock, folder, waiters, tail, store, shutdown, running }
    }

    /// Until so many claims are held by the server.
    pub async fn until_claims_wait(&self, count: usize) {
        until(|| async { self.waiters.claims.waiter_count() == count }).await;
    }

    /// Until so many calls are held that wait for a decision.
    pub async fn until_approvals_wait(&self, count: usize) {
        until(|| async { self.waiters.approvals.waiter_count() == count }).await;
    }

    /// Until somebody waits for events.
    pub async fn until_somebody_listens(&self) {
        until(|| async { self.tail.has_waiters() }).await;
    }

    /// What it writes to.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// The database file.
    pub fn db(&self) -> PathBuf {
        self.folder.path().join("runhub.db")
    }

    /// A watcher that is given to the oracle when it goes.
    pub fn watch(&self, request: SubscribeEventsRequest) -> Watcher {
        Watcher::new(&self.client, &self.db(), request)
    }

    /// From now on what retention and deletions remove is kept for the oracle.
    pub fn keep_everything(&self) {
        record::keep_everything(&self.db());
    }

    /// A connection of its own, where the shared one would be a bottleneck.
    pub async fn connect(&self) -> Client {
        Client::connect(&self.url).await.unwrap().without_retry()
    }

    /// Shuts down and waits until it has ended.
    pub async fn stop(self) -> TempDir {
        // The file's lock goes with the last of the store.
        drop((self.client, self.store));
        let _ = self.shutdown.send(());
        self.running.await.unwrap();
        self.folder
    }

    /// The same database under a new server.
    pub async fn restart(self) -> Self {
        let clock = self.clock.clone();
        Self::start_in(self.stop().await, clock).await
    }
}

/// What a long test has done, for people to see though it passes: cargo shows what is printed only when it fails.
pub fn show_figures(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How long a test waits for what must happen: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until something is so.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "it never came to be so");
}

/// A connection without our client around it.
pub async fn channel(url: &str) -> Channel {
    Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap()
}

/// What must end, and soon.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it must end by itself")
}

/// Where the real work lies, if it is beside the checkout: `RUNHUB_REAL_WORK` says where.
pub fn real_work() -> Option<PathBuf> {
    std::env::var_os("RUNHUB_REAL_WORK").map(PathBuf::from).inspect(|folder| assert!(folder.is_dir(), "{folder:?}"))
}

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
