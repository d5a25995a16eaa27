//! Two servers on one database under load, while faults happen: nothing that was acknowledged is lost, nothing happens
//! twice, and no stream has a gap.
//!
//! `RUNHUB_CHAOS_ROUNDS` sets the number of rounds. Each round has every fault once.

mod failover;
mod listen;
mod load;
mod proxy;

use std::collections::BTreeMap;
use std::time::Duration;

use runhub_test_postgres::Postgres;

use self::load::Load;
use self::proxy::{DatabaseProxy, Losing};
use crate::support::binary::signal;
use crate::support::database::TestDatabase;
use crate::support::fleet::Fleet;
use crate::support::{print_figures, until};

const ROUNDS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The database ends all its connections.
    CutConnections,
    /// The database ends the connections on which the servers hear of the commits of other servers.
    CutNotifications,
    /// A connection breaks when the server commits. The database has not received the COMMIT.
    LoseCommitRequest,
    /// A connection breaks when the server commits. The database has committed.
    LoseCommitAnswer,
    /// A server is killed and started again.
    KillServer,
    /// A server is stopped for longer than a transaction may be idle.
    StopServer,
    /// The database crashes and recovers.
    CrashDatabase,
    /// The database is away for longer than a stall.
    DatabaseAway,
}

const FAULTS: [Fault; 8] = [
    Fault::CutConnections,
    Fault::CutNotifications,
    Fault::LoseCommitRequest,
    Fault::LoseCommitAnswer,
    Fault::KillServer,
    Fault::StopServer,
    Fault::CrashDatabase,
    Fault::DatabaseAway,
];

/// Returns a PostgreSQL that waits until commits are on disk, because the tests crash it. Without PostgreSQL, this
/// program has printed a warning and ends without a failure.
fn start_postgres() -> Postgres {
    let programs = runhub_test_postgres::find_programs().unwrap_or_else(|| std::process::exit(0));
    Postgres::start(programs, &["fsync=on", "synchronous_commit=on"])
}

fn rounds(default: usize) -> usize {
    std::env::var("RUNHUB_CHAOS_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap())
}

/// Number of servers of each test.
const SERVERS: usize = 2;

/// The servers, their database, and what happens to them.
struct World {
    postgres: Postgres,
    /// The database, without the proxy.
    database: TestDatabase,
    proxy: DatabaseProxy,
    /// The servers, which use the database behind the proxy.
    servers: Fleet,
    faults: BTreeMap<Fault, usize>,
}

impl World {
    async fn start() -> Self {
        let postgres = start_postgres();
        let name = postgres.create_named_database();
        let database = TestDatabase::Postgres(postgres.url(&name));
        let proxy = DatabaseProxy::start(postgres.folder()).await;
        let url = format!("postgres://runhub@127.0.0.1:{}/{name}?sslmode=disable", proxy.port);
        Self { postgres, database, proxy, servers: Fleet::start(SERVERS, url), faults: BTreeMap::new() }
    }

    async fn cause(&mut self, fault: Fault, number: usize) {
        let at = number % SERVERS;
        match fault {
            Fault::CutConnections => self.cut_connections(CUT_ALL),
            Fault::CutNotifications => self.cut_connections(CUT_NOTIFICATIONS),
            Fault::LoseCommitRequest => self.lose(Losing::CommitRequests).await,
            Fault::LoseCommitAnswer => self.lose(Losing::CommitAnswers).await,
            Fault::KillServer => {
                self.servers.kill(at);
                self.servers.start_again(at);
            }
            Fault::StopServer => {
                signal("STOP", self.servers.pid(at));
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                signal("CONT", self.servers.pid(at));
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
        *self.faults.entry(fault).or_default() += 1;
    }

    fn cut_connections(&self, sql: &str) {
        self.postgres.run_sql("postgres", sql);
    }

    /// Loses COMMITs or their answers until one was lost.
    async fn lose(&self, losing: Losing) {
        let before = self.proxy.lost();
        self.proxy.lose(losing);
        until(async || self.proxy.lost() > before).await;
        self.proxy.lose(Losing::Nothing);
    }
}

const CUT_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runhub'";

/// A connection for notifications runs only these two statements.
const CUT_NOTIFICATIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'runhub' AND (query LIKE 'LISTEN%' OR query = 'SELECT last_position FROM counters')";

// The watchers block their threads while they read the database and the database is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn faults_lose_nothing_and_repeat_nothing() {
    let rounds = rounds(ROUNDS);
    let mut world = World::start().await;
    let load = Load::start(&world.database, &world.servers.addresses).await;
    let mut recovery = load.go_on().await;
    for round in 0..rounds {
        for fault in FAULTS {
            world.cause(fault, round).await;
            recovery = recovery.max(load.go_on().await);
        }
    }
    let done = load.stop().await;
    done.check(&world.database);
    print_figures(&format!(
        "chaos: {} appends acknowledged, {} unknown, longest {:?}, at most {recovery:?} after a fault, {} streams, \
        {} commits lost on the way, faults {:?}",
        done.written.acknowledged.len(),
        done.written.unknown,
        done.written.longest,
        done.streams(),
        world.proxy.lost(),
        world.faults
    ));
    assert_eq!(world.faults.len(), FAULTS.len());
    assert!(world.faults.values().all(|count| *count == rounds), "{:?}", world.faults);
}
