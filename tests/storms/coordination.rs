//! Many agents on one plan, some of which die, come back late, or say everything twice.

mod history;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason};
use tokio::task::JoinSet;

use self::history::{History, Rule, check};
use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::random::Random;

const AGENTS: usize = 64;
const TASKS: usize = 5_000;
const PATH_GROUPS: usize = 60;
const LEASE_SECONDS: i64 = 1;
/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Of one folder; each matches `gN/f.rs`, so that any two of a folder overlap, and none of two folders do.
const PATTERNS: [&str; 5] = ["gN", "gN/**", "gN/*.rs", "gN/f*", "gN/?.rs"];

fn plan(random: &mut Random) -> Vec<TaskDraft> {
    (0..TASKS)
        .map(|at| {
            let depends_on =
                (0..random.below(3)).filter(|_| at > 0).map(|_| random.below(at.min(200))).collect::<Vec<_>>();
            // Behind tasks of long before, so that what is blocked holds up a part only.
            let depends_on = depends_on.into_iter().map(|back| format!("k{}", at - 1 - back));
            let pattern = PATTERNS[random.below(PATTERNS.len())].replace('N', &random.below(PATH_GROUPS).to_string());
            TaskDraft {
                key: format!("k{at}"),
                title: format!("task {at}"),
                depends_on: depends_on.collect(),
                allowed_paths: if random.percent(50) { vec![pattern] } else { vec![] },
                priority: i32::try_from(random.below(3)).unwrap(),
                max_attempts: if random.percent(1) { 2 } else { 0 },
                ..unset()
            }
        })
        .collect()
}

/// Adds the plan in calls of a thousand: a dependency on an earlier call goes by id.
async fn add_plan(client: &Client, run_id: &str, drafts: Vec<TaskDraft>) {
    let mut ids = BTreeMap::new();
    for chunk in drafts.chunks(1_000) {
        let mut chunk = chunk.to_vec();
        for name in chunk.iter_mut().flat_map(|draft| &mut draft.depends_on) {
            if let Some(id) = ids.get(name) {
                String::clone_from(name, id);
            }
        }
        let keys: Vec<String> = chunk.iter().map(|draft| draft.key.clone()).collect();
        let added = add_tasks(client, run_id, chunk).await;
        ids.extend(keys.into_iter().zip(added.into_iter().map(|task| task.id)));
    }
}

/// What one agent has seen and done.
#[derive(Debug, Default, Clone)]
struct Account {
    late: usize,
    vanished: usize,
    replayed: usize,
    failed: usize,
    beats: usize,
    /// Completions that were taken, and reports that were not: task and attempt.
    taken: Vec<(String, i64)>,
    refused: Vec<(String, i64)>,
}

impl Account {
    fn add(&mut self, other: Self) {
        self.late += other.late;
        self.vanished += other.vanished;
        self.replayed += other.replayed;
        self.failed += other.failed;
        self.beats += other.beats;
        self.taken.extend(other.taken);
        self.refused.extend(other.refused);
    }

    /// Notes how a completion was taken; says whether it was.
    fn note_completion<T: std::fmt::Debug>(&mut self, claim: &Claim, answer: Result<T, Error>) -> bool {
        let taken = self.note(claim, answer);
        if taken {
            self.taken.push((task_id(claim), claim.attempt_number.into()));
        }
        taken
    }

    /// Notes how a report was taken; says whether it was.
    fn note<T: std::fmt::Debug>(&mut self, claim: &Claim, answer: Result<T, Error>) -> bool {
        match answer {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.reason(), Some(&Reason::StaleLease), "{error:?}");
                self.refused.push((task_id(claim), claim.attempt_number.into()));
                false
            }
        }
    }
}

struct Agent {
    client: Client,
    run_id: String,
    name: String,
    random: Random,
    over: Arc<AtomicBool>,
    account: Account,
    /// What comes back late, while the agent goes on.
    late: JoinSet<Account>,
}

impl Agent {
    async fn work(mut self) -> Account {
        let request = ClaimTaskRequest {
            lease_duration: seconds(LEASE_SECONDS),
            wait: seconds(2),
            ..claim_request(&self.run_id, &self.name)
        };
        while !self.over.load(Ordering::Relaxed) {
            if let Some(claim) = self.client.claim_task(request.clone()).await.unwrap().claim {
                self.do_task(claim).await;
            }
        }
        while let Some(late) = self.late.join_next().await {
            self.account.add(late.unwrap());
        }
        self.account
    }

    async fn do_task(&mut self, claim: Claim) {
        match self.random.below(100) {
            0..10 => self.account.vanished += 1,
            10..20 => self.come_back_late(claim),
            20..23 => {
                let answer = self.client.fail_task(failure(&claim)).await;
                self.account.failed += usize::from(self.account.note(&claim, answer));
            }
            23..25 => {
                let answer = release(&self.client, &claim).await;
                self.account.note(&claim, answer);
            }
            25 => self.work_long(claim).await,
            _ => self.complete(&claim).await,
        }
    }

    async fn complete(&mut self, claim: &Claim) {
        let answer = self.client.complete_task(completion(claim)).await;
        let taken = self.account.note_completion(claim, answer);
        if taken && self.random.percent(8) {
            // An old completion again, without a request_id: refused, for the attempt has ended.
            let answer = self.client.complete_task(completion(claim)).await;
            assert!(!self.account.note(claim, answer), "a replay was taken");
            self.account.replayed += 1;
        }
    }

    /// It is silent for longer than the lease, and then reports all the same.
    fn come_back_late(&mut self, claim: Claim) {
        let (client, silent) = (self.client.clone(), Duration::from_millis(1_100 + self.random.below(900) as u64));
        let beats_first = self.random.percent(30);
        self.late.spawn(async move {
            let mut account = Account { late: 1, ..Account::default() };
            tokio::time::sleep(silent).await;
            if beats_first && beat(&client, &claim).await.state() == LeaseState::Lost {
                return account;
            }
            let answer = client.complete_task(completion(&claim)).await;
            account.note_completion(&claim, answer);
            account
        });
    }

    /// Longer than the lease, with signs of life.
    async fn work_long(&mut self, claim: Claim) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1_500) {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.account.beats += 1;
            if beat(&self.client, &claim).await.state() == LeaseState::Lost {
                return;
            }
        }
        self.complete(&claim).await;
    }
}

/// Until nobody holds anything and nothing can be claimed any more.
async fn until_over(client: &Client, run_id: &str) {
    let mut quiet = 0;
    // More than once, with more than a lease between: a late holder may come back.
    while quiet < 3 {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let statuses = vec![TaskStatus::InProgress.into()];
        let request = ListTasksRequest { run_id: run_id.into(), statuses, page_size: 1, ..unset() };
        let held = client.list_tasks(request).await.unwrap().tasks.len();
        let explained = stuck(client, run_id).await;
        quiet = if held == 0 && explained { quiet + 1 } else { 0 };
    }
}

/// Every pending task waits for something that will not move by itself.
async fn stuck(client: &Client, run_id: &str) -> bool {
    for task in tasks_of(client, run_id).await.values().filter(|task| task.status() == TaskStatus::Pending) {
        if explain(client, &task.id).await.claimable {
            return false;
        }
    }
    true
}

async fn tasks_of(client: &Client, run_id: &str) -> BTreeMap<String, Task> {
    let mut tasks = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListTasksRequest { run_id: run_id.into(), page_size: 1_000, page_token, ..unset() };
        let page = client.list_tasks(request).await.unwrap();
        tasks.extend(page.tasks.into_iter().map(|task| (task.id.clone(), task)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return tasks;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_die_and_agents_that_return_late_break_no_promise() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start(&folder.path().join("db"), &[]);
    let client = server.connect().await;
    let run_id = new_run(&client).await.id;
    add_plan(&client, &run_id, plan(&mut Random::new(1))).await;
    let (begun, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        let agent = Agent {
            client: server.connect().await,
            run_id: run_id.clone(),
            name: format!("agent {number}"),
            random: Random::new(100 + number as u64),
            over: Arc::clone(&over),
            account: Account::default(),
            late: JoinSet::new(),
        };
        agents.spawn(agent.work());
    }
    let ended = tokio::time::timeout(PATIENCE, until_over(&client, &run_id)).await;
    over.store(true, Ordering::Relaxed);
    let mut account = Account::default();
    while let Some(agent) = agents.join_next().await {
        account.add(agent.unwrap());
    }
    let (taken, refused) = (std::mem::take(&mut account.taken), std::mem::take(&mut account.refused));
    let history = History { tasks: tasks_of(&client, &run_id).await, log: log(&client, &run_id).await, taken, refused };
    assert_eq!(check(&history), Default::default());
    assert!(ended.is_ok(), "something is neither done nor explained");
    println!("{:?}: {account:?}, {}", begun.elapsed(), history.figures());
    let claims = history.log.iter().filter(|event| event.kind == "task_claimed").count();
    let of_100 = |count: usize| count * 100 / claims;
    let shares = [of_100(account.vanished), of_100(account.late), of_100(account.replayed)];
    // The rest stands behind tasks that used up their attempts: the checker has seen that.
    assert!(history.taken.len() >= TASKS * 3 / 4, "{} completed", history.taken.len());
    assert!(shares[0] >= 8 && shares[1] >= 8 && shares[2] >= 4, "vanished, late, replayed: {shares:?} of 100");
    assert!(account.failed > 50 && account.beats > 50 && history.refused.len() > 200, "{account:?}");
    the_checker_can_fail(&history);
}

/// Each rule, broken in a copy of what the storm has left behind, is found.
fn the_checker_can_fail(history: &History) {
    let at = |kind: &str| history.log.iter().position(|event| event.kind == kind).unwrap();
    let broken = |rule: Rule, change: &dyn Fn(&mut History)| {
        let mut copy = history.clone();
        change(&mut copy);
        let found = check(&copy);
        assert!(found.iter().any(|(found, _)| *found == rule), "{rule:?} was not found: {found:?}");
    };
    let twice = |kind: &'static str| move |copy: &mut History| copy.log.insert(at(kind), history.log[at(kind)].clone());
    broken(Rule::TwoLiveAttempts, &twice("task_claimed"));
    broken(Rule::AttemptNumbers, &twice("task_claimed"));
    broken(Rule::StaleWriteTaken, &twice("task_completed"));
    broken(Rule::StaleWriteTaken, &|copy| copy.taken[0].1 += 1);
    broken(Rule::LeaseOutOfOrder, &twice("lease_expired"));
    broken(Rule::StaleWriteNotLogged, &|copy| drop(copy.log.remove(at("stale_write_rejected"))));
    broken(Rule::EndNotExplained, &|copy| copy.log.retain(|event| event.kind != "task_completed"));
    // All of them in one folder, and every task behind the last one.
    broken(Rule::OverlappingPaths, &|copy| {
        copy.tasks.values_mut().for_each(|task| task.allowed_paths = vec!["g0".into()]);
    });
    broken(Rule::BeforeItsDependencies, &|copy| {
        let last = copy.log.iter().rev().find(|event| event.kind == "task_completed").unwrap().task_id.clone().unwrap();
        copy.tasks.values_mut().filter(|task| task.id != last).for_each(|task| task.depends_on = vec![last.clone()]);
    });
}
