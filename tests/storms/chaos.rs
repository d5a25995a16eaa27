//! Two servers on one database under load, while faults happen: nothing that was acknowledged is lost, nothing happens
//! twice, and no stream has a gap.
//!
//! `RUNHUB_CHAOS_ROUNDS` sets the number of rounds. Each round has every fault once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runhub_client::Client;
use runhub_client::v1::*;
use runhub_test_postgres::Postgres;
use tokio::task::JoinHandle;

use crate::support::binary::{Binary, signal};
use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::print_figures;
use crate::support::record::{ReadLimits, Recorder, committed_log};

const ROUNDS: usize = 2;
const WRITERS: usize = 16;
const WATCHERS: usize = 4;
/// Pause between two faults, in which the load goes on.
const PAUSE: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The database ends all its connections.
    CutConnections,
    /// A server is killed and started again.
    KillServer,
    /// A server is stopped for longer than a transaction may be idle.
    StopServer,
    /// The database crashes and recovers.
    CrashDatabase,
    /// The database is away for longer than a stall.
    DatabaseAway,
}

const FAULTS: [Fault; 5] =
    [Fault::CutConnections, Fault::KillServer, Fault::StopServer, Fault::CrashDatabase, Fault::DatabaseAway];

/// The servers, their database, and what happens to them.
struct World {
    postgres: Postgres,
    url: String,
    servers: Vec<Binary>,
    /// The addresses at which the servers listen, also after a restart.
    addresses: Vec<String>,
    faults: BTreeMap<Fault, usize>,
}

impl World {
    fn start() -> Self {
        let programs = runhub_test_postgres::find_programs().unwrap_or_else(|| std::process::exit(0));
        let postgres = Postgres::start(programs, &["fsync=on", "synchronous_commit=on"]);
        let url = postgres.create_database();
        let servers: Vec<Binary> = (0..2).map(|_| Binary::start_on_store("127.0.0.1:0", &url)).collect();
        let addresses = servers.iter().map(|server| server.address.clone()).collect();
        Self { postgres, url, servers, addresses, faults: BTreeMap::new() }
    }

    async fn cause(&mut self, fault: Fault, number: usize) {
        *self.faults.entry(fault).or_default() += 1;
        let at = number % self.servers.len();
        match fault {
            Fault::CutConnections => self.cut_connections(),
            Fault::KillServer => {
                self.servers.remove(at).kill();
                self.servers.insert(at, Binary::start_on_store(&self.addresses[at], &self.url));
            }
            Fault::StopServer => {
                signal("STOP", self.servers[at].pid());
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                signal("CONT", self.servers[at].pid());
            }
            Fault::CrashDatabase => {
                self.postgres.crash();
                self.postgres.start_again();
            }
            Fault::DatabaseAway => {
                self.postgres.crash();
                tokio::time::sleep(Duration::from_secs(3)).await;
                self.postgres.start_again();
            }
        }
    }

    fn cut_connections(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'runhub' AND pid <> pg_backend_pid()";
        self.postgres.run_sql("postgres", sql);
    }
}

/// The acknowledged appends of a writer, and the longest time that one of them took.
struct Written {
    kinds: Vec<String>,
    longest: Duration,
}

/// Appends events until `is_over`. Repeats each call with its request_id until the call is answered.
async fn write(clients: Vec<Client>, run_id: String, writer: usize, is_over: Arc<AtomicBool>) -> Written {
    let mut written = Written { kinds: Vec::new(), longest: Duration::ZERO };
    let mut turn = writer;
    while !is_over.load(Ordering::Relaxed) {
        let kind = format!("{writer}.{}", written.kinds.len());
        let request =
            AppendEventsRequest { run_id: run_id.clone(), events: vec![event(&kind)], request_id: kind.clone() };
        let begun = Instant::now();
        while let Err(error) = clients[turn % clients.len()].append_events(request.clone()).await {
            assert!(error.is_temporary(), "{error}");
            // Any server can answer the repeated call.
            turn += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        written.longest = written.longest.max(begun.elapsed());
        written.kinds.push(kind);
    }
    written
}

/// Follows the whole log, and connects again whenever the stream breaks, each time to the next server.
fn watch(database: TestDatabase, addresses: Vec<String>, is_over: Arc<AtomicBool>) -> JoinHandle<Recorder> {
    tokio::spawn(async move {
        let mut recorder = Recorder::new(&database, SubscribeEventsRequest { after_position: Some(0), ..unset() });
        let mut turn = 0;
        let limits = || ReadLimits { max_duration: Duration::from_millis(1_500), ..ReadLimits::NONE };
        while !is_over.load(Ordering::Relaxed) {
            let address = format!("http://{}", addresses[turn % addresses.len()]);
            turn += 1;
            let channel = tonic::transport::Channel::from_shared(address).unwrap().connect_lazy();
            recorder.record_limited(channel, limits()).await;
        }
        recorder
    })
}

fn rounds() -> usize {
    std::env::var("RUNHUB_CHAOS_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

// The watchers block their threads while they read the database and the database is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn faults_lose_nothing_and_repeat_nothing() {
    let mut world = World::start();
    let database = TestDatabase::Postgres(world.url.clone());
    let client = world.servers[0].connect().await;
    let run_id = new_run(&client).await.id;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for server in &world.servers {
        clients.push(server.connect().await);
    }
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write(clients.clone(), run_id.clone(), number, Arc::clone(&is_over))))
        .collect();
    // The watchers end a little later than the writers, so that they receive the last events.
    let watchers_end = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> =
        (0..WATCHERS).map(|_| watch(database.clone(), world.addresses.clone(), Arc::clone(&watchers_end))).collect();
    for round in 0..rounds() {
        for fault in FAULTS {
            tokio::time::sleep(PAUSE).await;
            world.cause(fault, round).await;
        }
    }
    tokio::time::sleep(PAUSE).await;
    is_over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    let mut longest = Duration::ZERO;
    for writer in writers {
        let written = writer.await.unwrap();
        acknowledged.extend(written.kinds);
        longest = longest.max(written.longest);
    }
    watchers_end.store(true, Ordering::Relaxed);
    let mut parts = 0;
    for watcher in watchers {
        let recorder = watcher.await.unwrap();
        parts += recorder.parts.len();
        recorder.check();
    }
    check_log(&database, &acknowledged);
    print_figures(&format!(
        "chaos: {} appends acknowledged, longest {longest:?}, {parts} streams, faults {:?}",
        acknowledged.len(),
        world.faults
    ));
    assert_eq!(world.faults.len(), FAULTS.len());
    assert!(acknowledged.len() > 100 * rounds(), "too little load: {}", acknowledged.len());
}

/// Checks that each acknowledged event is in the log once, and nothing else besides at most one event of each writer.
fn check_log(database: &TestDatabase, acknowledged: &[String]) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in committed_log(database).events() {
        *counts.entry(event.kind.clone()).or_default() += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "appended twice: {twice:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|kind| !counts.contains_key(*kind)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
