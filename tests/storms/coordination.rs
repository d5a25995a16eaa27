//! Many agents on one plan, some of which die, return late, or repeat their reports.

pub mod history;
pub mod plan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason};
use tokio::task::JoinSet;

use self::history::{History, Rule, check};
use self::plan::{add_plan, generate_plan};
use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::random::Random;

const AGENTS: usize = 64;
const TASKS: usize = 5_000;
const LEASE_SECONDS: i64 = 1;
/// Far longer than the test takes.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The actions of one agent, and the answers it got.
#[derive(Debug, Default, Clone)]
struct Report {
    late: usize,
    vanished: usize,
    replayed: usize,
    failed: usize,
    beats: usize,
    /// Task and attempt of each accepted completion.
    accepted: Vec<(String, i64)>,
    /// Task and attempt of each rejected report.
    rejected: Vec<(String, i64)>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.late += other.late;
        self.vanished += other.vanished;
        self.replayed += other.replayed;
        self.failed += other.failed;
        self.beats += other.beats;
        self.accepted.extend(other.accepted);
        self.rejected.extend(other.rejected);
    }

    /// Records how a completion was answered. Returns true if it was accepted.
    fn note_completion<T: std::fmt::Debug>(&mut self, claim: &Claim, answer: Result<T, Error>) -> bool {
        let accepted = self.note(claim, answer);
        if accepted {
            self.accepted.push((task_id(claim), claim.attempt_number.into()));
        }
        accepted
    }

    /// Records how a report was answered. Returns true if it was accepted.
    fn note<T: std::fmt::Debug>(&mut self, claim: &Claim, answer: Result<T, Error>) -> bool {
        match answer {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.reason(), Some(&Reason::StaleLease), "{error:?}");
                self.rejected.push((task_id(claim), claim.attempt_number.into()));
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
    done: Arc<AtomicBool>,
    report: Report,
    /// Late reports, which run while the agent goes on.
    late: JoinSet<Report>,
}

impl Agent {
    async fn work(mut self) -> Report {
        let request = ClaimTaskRequest {
            lease_duration: seconds(LEASE_SECONDS),
            wait: seconds(2),
            ..claim_request(&self.run_id, &self.name)
        };
        while !self.done.load(Ordering::Relaxed) {
            if let Some(claim) = self.client.claim_task(request.clone()).await.unwrap().claim {
                self.do_task(claim).await;
            }
        }
        while let Some(late) = self.late.join_next().await {
            self.report.add(late.unwrap());
        }
        self.report
    }

    async fn do_task(&mut self, claim: Claim) {
        match self.random.below(100) {
            0..10 => self.report.vanished += 1,
            10..20 => self.complete_late(claim),
            20..23 => {
                let answer = self.client.fail_task(failure(&claim)).await;
                self.report.failed += usize::from(self.report.note(&claim, answer));
            }
            23..25 => {
                let answer = release(&self.client, &claim).await;
                self.report.note(&claim, answer);
            }
            25 => self.work_past_the_lease(claim).await,
            _ => self.complete(&claim).await,
        }
    }

    async fn complete(&mut self, claim: &Claim) {
        let answer = self.client.complete_task(completion(claim)).await;
        let accepted = self.report.note_completion(claim, answer);
        if accepted && self.random.percent(8) {
            // A repeated completion without a request_id is rejected, because the attempt has ended.
            let answer = self.client.complete_task(completion(claim)).await;
            assert!(!self.report.note(claim, answer), "a repeated completion was accepted");
            self.report.replayed += 1;
        }
    }

    /// Stays silent for longer than the lease, then reports all the same.
    fn complete_late(&mut self, claim: Claim) {
        let client = self.client.clone();
        let silent = Duration::from_millis(1_100 + self.random.below(900) as u64);
        let beats_first = self.random.percent(30);
        self.late.spawn(async move {
            let mut report = Report { late: 1, ..Report::default() };
            tokio::time::sleep(silent).await;
            if beats_first && beat(&client, &claim).await.state() == LeaseState::Lost {
                return report;
            }
            let answer = client.complete_task(completion(&claim)).await;
            report.note_completion(&claim, answer);
            report
        });
    }

    /// Works for longer than the lease, with heartbeats.
    async fn work_past_the_lease(&mut self, claim: Claim) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1_500) {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.report.beats += 1;
            if beat(&self.client, &claim).await.state() == LeaseState::Lost {
                return;
            }
        }
        self.complete(&claim).await;
    }
}

/// Waits until no task is held and none can be claimed.
async fn until_settled(client: &Client, run_id: &str) {
    let mut quiet = 0;
    // Check three times, more than one lease apart, because a late holder may return.
    while quiet < 3 {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let statuses = vec![TaskStatus::InProgress.into()];
        let request = ListTasksRequest { run_id: run_id.into(), statuses, page_size: 1, ..unset() };
        let held = client.list_tasks(request).await.unwrap().tasks.len();
        let stuck = nothing_is_claimable(client, run_id).await;
        quiet = if held == 0 && stuck { quiet + 1 } else { 0 };
    }
}

/// Returns true if no pending task is claimable.
async fn nothing_is_claimable(client: &Client, run_id: &str) -> bool {
    for task in tasks_of(client, run_id).await.values().filter(|task| task.status() == TaskStatus::Pending) {
        if explain(client, &task.id).await.claimable {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_and_late_agents_break_no_promise() {
    let folder = tempfile::tempdir().unwrap();
    let server = Binary::start_in(folder.path(), &[]);
    let client = server.connect().await;
    let run_id = new_run(&client).await.id;
    add_plan(&client, &run_id, generate_plan(TASKS, &mut Random::new(1))).await;
    let begun = Instant::now();
    let done = Arc::new(AtomicBool::new(false));
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        let agent = Agent {
            client: server.connect().await,
            run_id: run_id.clone(),
            name: format!("agent {number}"),
            random: Random::new(100 + number as u64),
            done: Arc::clone(&done),
            report: Report::default(),
            late: JoinSet::new(),
        };
        agents.spawn(agent.work());
    }
    let ended = tokio::time::timeout(TIMEOUT, until_settled(&client, &run_id)).await;
    done.store(true, Ordering::Relaxed);
    let mut report = Report::default();
    while let Some(agent) = agents.join_next().await {
        report.add(agent.unwrap());
    }
    let accepted = std::mem::take(&mut report.accepted);
    let rejected = std::mem::take(&mut report.rejected);
    let history =
        History { tasks: tasks_of(&client, &run_id).await, log: log(&client, &run_id).await, accepted, rejected };
    assert_eq!(check(&history), Default::default());
    assert!(ended.is_ok(), "some task is neither completed nor explained");
    println!("{:?}: {report:?}, {}", begun.elapsed(), history.figures());
    let claims = history.log.iter().filter(|event| event.kind == "task_claimed").count();
    let percent = |count: usize| count * 100 / claims;
    let shares = [percent(report.vanished), percent(report.late), percent(report.replayed)];
    // The remaining tasks depend on tasks that exhausted their attempts, as the checker has verified.
    assert!(history.accepted.len() >= TASKS * 3 / 4, "{} completed", history.accepted.len());
    assert!(shares[0] >= 8 && shares[1] >= 8 && shares[2] >= 4, "vanished, late, replayed: {shares:?} of 100");
    assert!(report.failed > 50 && report.beats > 50 && history.rejected.len() > 200, "{report:?}");
    assert_checker_finds_each_rule(&history);
}

/// Breaks each rule in a copy of the history, and asserts that the checker finds it.
fn assert_checker_finds_each_rule(history: &History) {
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
    broken(Rule::StaleWriteAccepted, &twice("task_completed"));
    broken(Rule::StaleWriteAccepted, &|copy| copy.accepted[0].1 += 1);
    broken(Rule::LeaseOutOfOrder, &twice("lease_expired"));
    broken(Rule::StaleWriteNotLogged, &|copy| drop(copy.log.remove(at("stale_write_rejected"))));
    broken(Rule::FinalStateUnexplained, &|copy| copy.log.retain(|event| event.kind != "task_completed"));
    // Put all tasks into one folder, and then let every task depend on the last one.
    broken(Rule::OverlappingPaths, &|copy| {
        for task in copy.tasks.values_mut() {
            task.allowed_paths = vec!["g0".into()];
        }
    });
    broken(Rule::OpenDependency, &|copy| {
        let last = copy.log.iter().rev().find(|event| event.kind == "task_completed").unwrap().task_id.clone().unwrap();
        for task in copy.tasks.values_mut().filter(|task| task.id != last) {
            task.depends_on = vec![last.clone()];
        }
    });
}
