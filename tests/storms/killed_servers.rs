//! Agents complete a plan while servers are killed and started again. The agents themselves live, and repeat each call
//! with its request_id on another server until a server answers. So each task is claimed once, although answers are lost.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, Error};
use tokio::task::JoinSet;

use crate::coordination::history::{History, check};
use crate::coordination::plan::{add_plan, generate_plan};
use crate::support::calls::*;
use crate::support::database::{TestDatabase, shared_postgres};
use crate::support::fleet::{FailoverClient, Fleet};
use crate::support::random::Random;
use crate::support::{print_figures, until};

const SERVERS: usize = 3;
const AGENTS: usize = 64;
const TASKS: usize = 5_000;
/// Maximum number of completions between a start and the next kill.
const MAX_COMPLETIONS: usize = 200;
/// Minimum number of kills, and minimum number of commits whose answers are lost. A run with fewer proves too little.
const MIN_KILLS: usize = 30;
const MIN_LOST_COMMITS: usize = 4;
/// Far longer than the test takes, so no lease expires.
const LEASE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn each_task_is_claimed_once_while_servers_are_killed() {
    let url = shared_postgres().create_database();
    let mut random = Random::new(7);
    let mut world = World::start(url);
    let client = world.servers.connect(0).await;
    let run_id = new_run(&client).await.id;
    add_plan(&client, &run_id, generate_plan(TASKS, &mut random)).await;
    let begun = Instant::now();
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        agents.spawn(Agent::new(&world, &run_id, number).work());
    }
    world.kill_until_completed(&mut random).await;
    let mut claims = Vec::new();
    let mut repeated = 0;
    while let Some(report) = agents.join_next().await {
        let report = report.unwrap();
        claims.extend(report.claims);
        repeated += report.repeated;
    }
    let World { kills, lost_commits, .. } = world;
    print_figures(&format!(
        "killed servers: {TASKS} tasks in {:.1?}, {kills} kills, {repeated} calls repeated, answers of {lost_commits} \
        commits lost",
        begun.elapsed(),
    ));
    assert!(kills >= MIN_KILLS, "only {kills} kills");
    assert!(lost_commits >= MIN_LOST_COMMITS, "only the answers of {lost_commits} commits were lost");
    assert_claimed_once(&claims);
    assert_promises_kept(&world.servers.connect(0).await, &run_id, &claims).await;
}

/// Lets each commit that stores an answer wait while `is_on` is true.
const ALLOW_HOLDING: &str = "CREATE TABLE hold (is_on BOOLEAN NOT NULL);
    INSERT INTO hold VALUES (false);
    CREATE FUNCTION wait_while_held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        WHILE (SELECT is_on FROM hold) LOOP
            PERFORM pg_sleep(0.001);
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON requests DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_while_held();";

/// Number of commits that wait. Other statements of the servers do not sleep.
const HELD_COMMITS: &str =
    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// The servers, and what happens to them.
struct World {
    servers: Fleet,
    database: TestDatabase,
    /// Number of tasks that the agents have completed.
    completed: Arc<AtomicUsize>,
    /// Number of kills.
    kills: usize,
    /// Number of commits that continued after their server was killed, so that their calls got no answer.
    lost_commits: usize,
}

impl World {
    fn start(url: String) -> Self {
        let servers = Fleet::start(SERVERS, url.clone());
        let database = TestDatabase::Postgres(url);
        database.execute(ALLOW_HOLDING);
        Self { servers, database, completed: Arc::default(), kills: 0, lost_commits: 0 }
    }

    fn completed(&self) -> usize {
        self.completed.load(Ordering::Relaxed)
    }

    /// Kills servers at random, and starts them again, until the agents have completed all tasks.
    async fn kill_until_completed(&mut self, random: &mut Random) {
        loop {
            let next = self.completed() + random.below(MAX_COMPLETIONS);
            until(async || self.completed() >= next.min(TASKS)).await;
            if self.completed() >= TASKS {
                return;
            }
            if random.percent(30) {
                self.kill_all_during_a_commit().await;
            } else {
                // A completion was just answered. Let the next calls begin.
                tokio::time::sleep(Duration::from_micros(random.below(20_000) as u64)).await;
                let victim = random.below(SERVERS);
                self.kill(victim..victim + 1);
            }
        }
    }

    /// Kills all servers while the database executes a commit. The database completes the commit, because it has received
    /// all of it, and the calls get no answer.
    async fn kill_all_during_a_commit(&mut self) {
        self.database.execute("UPDATE hold SET is_on = true");
        until(async || self.count_held_commits() > 0 || self.completed() >= TASKS).await;
        self.lost_commits += self.count_held_commits();
        self.kill(0..SERVERS);
    }

    fn count_held_commits(&self) -> usize {
        self.database.query(HELD_COMMITS)[0][0].as_ref().unwrap().parse().unwrap()
    }

    /// Kills servers, lets held commits continue, and starts the servers again.
    fn kill(&mut self, victims: Range<usize>) {
        self.kills += victims.len();
        victims.clone().for_each(|at| self.servers.kill(at));
        self.database.execute("UPDATE hold SET is_on = false");
        tokio::task::block_in_place(|| victims.for_each(|at| self.servers.start_again(at)));
    }
}

/// Each claim is the first attempt of another task.
fn assert_claimed_once(claims: &[Claim]) {
    assert!(claims.iter().all(|claim| claim.attempt_number == 1), "a claim was lost, or a lease expired");
    let claimed: BTreeSet<String> = claims.iter().map(task_id).collect();
    assert_eq!((claims.len(), claimed.len()), (TASKS, TASKS), "a task was claimed twice");
}

/// Checks the log of the run, whose tasks must all be completed.
async fn assert_promises_kept(client: &Client, run_id: &str, claims: &[Claim]) {
    let tasks = tasks_of(client, run_id).await;
    assert_eq!(tasks.len(), TASKS);
    assert!(tasks.values().all(|task| task.status() == TaskStatus::Completed));
    let accepted = claims.iter().map(|claim| (task_id(claim), claim.attempt_number.into())).collect();
    let history = History { tasks, log: log(client, run_id).await, accepted, rejected: Vec::new() };
    assert_eq!(check(&history), Default::default());
    assert_eq!(history.log.iter().filter(|event| event.kind == "task_claimed").count(), TASKS);
}

struct Agent {
    servers: FailoverClient,
    run_id: String,
    name: String,
    /// Number of requests so far.
    requests: usize,
    /// Number of tasks that all agents have completed.
    completed: Arc<AtomicUsize>,
    report: Report,
}

/// The answers that an agent got.
#[derive(Default)]
struct Report {
    /// The claims, whose tasks the agent has completed.
    claims: Vec<Claim>,
    /// Number of calls that the agent made again.
    repeated: usize,
}

impl Agent {
    fn new(world: &World, run_id: &str, number: usize) -> Self {
        Self {
            servers: world.servers.failover_client(number),
            run_id: run_id.to_owned(),
            name: format!("agent {number}"),
            requests: 0,
            completed: Arc::clone(&world.completed),
            report: Report::default(),
        }
    }

    async fn work(mut self) -> Report {
        while self.completed.load(Ordering::Relaxed) < TASKS {
            // Without this, all agents would gather at the server that has lived longest, and other kills would hit nobody.
            self.servers.move_to_next();
            if let Some(claim) = self.claim().await {
                let request = CompleteTaskRequest { request_id: self.next_request_id(), ..completion(&claim) };
                self.call(Client::complete_task, request).await;
                self.completed.fetch_add(1, Ordering::Relaxed);
                self.report.claims.push(claim);
            }
        }
        self.report
    }

    async fn claim(&mut self) -> Option<Claim> {
        let request = ClaimTaskRequest {
            lease_duration: Some(LEASE.try_into().unwrap()),
            wait: seconds(1),
            request_id: self.next_request_id(),
            ..claim_request(&self.run_id, &self.name)
        };
        self.call(Client::claim_task, request).await.claim
    }

    fn next_request_id(&mut self) -> String {
        self.requests += 1;
        format!("{} {}", self.name, self.requests)
    }

    /// Repeats a call until a server answers, and returns the answer.
    async fn call<R: Clone, T>(&mut self, call: impl AsyncFn(&Client, R) -> Result<T, Error> + Copy, request: R) -> T {
        loop {
            if let Some(answer) = self.servers.call_once(call, request.clone()).await {
                return answer;
            }
            self.report.repeated += 1;
        }
    }
}
