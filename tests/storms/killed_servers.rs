//! Agents complete a plan while servers are killed and started again. The agents themselves live, and repeat each call
//! with its request_id on another server until a server answers. So each task is claimed once, although answers are lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use prost_types::Timestamp;
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
/// Minimum number of kills, and minimum number of committed calls whose answer is lost. A run with fewer proves too little.
const MIN_KILLS: usize = 30;
const MIN_LOST_ANSWERS: usize = 10;
/// Far longer than the test takes, so no lease expires.
const LEASE: Duration = Duration::from_secs(600);

/// Each commit takes 5 ms, as on a slow disk. A commit continues in the database although its server is killed, so more
/// kills lose the answers to committed calls.
const SLOW_COMMITS: &str = "CREATE FUNCTION delay_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep(0.005);
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER slow_commits AFTER UPDATE ON counters DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION delay_commit();";

#[tokio::test(flavor = "multi_thread")]
async fn each_task_is_claimed_once_while_servers_are_killed() {
    let url = shared_postgres().create_database();
    let mut servers = Fleet::start(SERVERS, url.clone());
    TestDatabase::Postgres(url).execute(SLOW_COMMITS);
    let mut random = Random::new(7);
    let client = servers.connect(0).await;
    let run_id = new_run(&client).await.id;
    add_plan(&client, &run_id, generate_plan(TASKS, &mut random)).await;
    let begun = Instant::now();
    let completed = Arc::<AtomicUsize>::default();
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        agents.spawn(Agent::new(&servers, &run_id, number, &completed).work());
    }
    let kills = kill_until_completed(&mut servers, &completed, &mut random).await;
    let mut report = Report::default();
    while let Some(agent) = agents.join_next().await {
        report.add(agent.unwrap());
    }
    print_figures(&format!(
        "killed servers: {TASKS} tasks in {:.1?}, {kills} kills, {} calls repeated, {} answers to committed calls lost",
        begun.elapsed(),
        report.repeated,
        report.lost_answers
    ));
    assert!(kills >= MIN_KILLS, "only {kills} kills");
    assert!(report.lost_answers >= MIN_LOST_ANSWERS, "only {} answers were lost", report.lost_answers);
    assert_claimed_once(&report.claims);
    assert_promises_kept(&servers.connect(0).await, &run_id, &report.claims).await;
}

/// Kills servers at random, and starts them again, until the agents have completed all tasks. Returns the number of kills.
async fn kill_until_completed(servers: &mut Fleet, completed: &AtomicUsize, random: &mut Random) -> usize {
    let mut kills = 0;
    loop {
        let next = completed.load(Ordering::Relaxed) + random.below(MAX_COMPLETIONS);
        until(async || completed.load(Ordering::Relaxed) >= next.min(TASKS)).await;
        if completed.load(Ordering::Relaxed) >= TASKS {
            return kills;
        }
        // The last completion was answered after a commit. Let the next commits begin.
        tokio::time::sleep(Duration::from_micros(random.below(20_000) as u64)).await;
        let victim = random.below(SERVERS);
        // Sometimes, no server is left.
        let victims = if random.percent(20) { 0..SERVERS } else { victim..victim + 1 };
        kills += victims.len();
        victims.clone().for_each(|at| servers.kill(at));
        tokio::task::block_in_place(|| victims.for_each(|at| servers.start_again(at)));
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

/// The answers that an agent got, or all agents together.
#[derive(Default)]
struct Report {
    /// The claims, whose tasks the agent has completed.
    claims: Vec<Claim>,
    /// Number of calls that the agent made again.
    repeated: usize,
    /// Number of claims and completions that were committed before the agent repeated the call.
    lost_answers: usize,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.claims.extend(other.claims);
        self.repeated += other.repeated;
        self.lost_answers += other.lost_answers;
    }
}

impl Agent {
    fn new(servers: &Fleet, run_id: &str, number: usize, completed: &Arc<AtomicUsize>) -> Self {
        Self {
            servers: servers.failover_client(number),
            run_id: run_id.to_owned(),
            name: format!("agent {number}"),
            requests: 0,
            completed: Arc::clone(completed),
            report: Report::default(),
        }
    }

    async fn work(mut self) -> Report {
        while self.completed.load(Ordering::Relaxed) < TASKS {
            // Without this, all agents would gather at the server that has lived longest, and other kills would hit nobody.
            self.servers.move_to_next();
            if let Some(claim) = self.claim().await {
                let request = CompleteTaskRequest { request_id: self.next_request_id(), ..completion(&claim) };
                let (answer, repeated) = self.call(Client::complete_task, request).await;
                self.note_answer(answer.task.unwrap().update_time, repeated);
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
        let (answer, repeated) = self.call(Client::claim_task, request).await;
        let claim = answer.claim?;
        self.note_answer(claim.task.as_ref().unwrap().update_time, repeated);
        Some(claim)
    }

    /// Counts a lost answer if the task was changed before the agent repeated the call.
    fn note_answer(&mut self, changed: Option<Timestamp>, repeated: Option<SystemTime>) {
        let changed = SystemTime::try_from(changed.unwrap()).unwrap();
        self.report.lost_answers += usize::from(repeated.is_some_and(|repeated| changed < repeated));
    }

    fn next_request_id(&mut self) -> String {
        self.requests += 1;
        format!("{} {}", self.name, self.requests)
    }

    /// Repeats a call until a server answers. Returns the answer, and the time of the last repetition if the agent has
    /// repeated the call.
    async fn call<R: Clone, T>(
        &mut self,
        call: impl AsyncFn(&Client, R) -> Result<T, Error> + Copy,
        request: R,
    ) -> (T, Option<SystemTime>) {
        let mut repeated = None;
        loop {
            if let Some(answer) = self.servers.call_once(call, request.clone()).await {
                return (answer, repeated);
            }
            repeated = Some(now());
            self.report.repeated += 1;
        }
    }
}

/// Returns the time of the machine, which is also the time of the servers and of the database.
#[allow(clippy::disallowed_methods)]
fn now() -> SystemTime {
    SystemTime::now()
}
