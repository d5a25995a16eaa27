//! Compares claims with a search over all tasks, after random changes and rollbacks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runhub_server::actions::claim_index::{ClaimIndex, Loading, Scope};
use runhub_server::actions::paths::Overlaps;
use runhub_server::actions::task::EndTask;
use runhub_server::actions::{Outcome, Postponed, claim, deletion, lease, plan, run, task};
use runhub_server::clock::{Clock, ManualClock};
use runhub_server::domain::Key;
use runhub_server::domain::glob::{Glob, GlobSet, Overlap};
use runhub_server::domain::run::{Run, RunDraft, RunStatus, RunUpdate};
use runhub_server::domain::task::{Caller, EndStatus, Ending, Task, TaskDraft, TaskSpec, TaskStatus, contains_all};
use runhub_server::domain::time::Timestamp;
use runhub_server::error::{Error, Result};
use runhub_server::store::{Limit, Store, Tx, due, runs, tasks};

use crate::support::database::TestDatabase;
use crate::support::random::Random;

const START: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);
const LEASE: Duration = Duration::from_secs(60);

fn pick<T: Clone>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len())].clone()
}

/// A store with an index, and the random changes of a test.
struct World {
    store: Store,
    clock: ManualClock,
    overlaps: Arc<Overlaps>,
    index: Arc<ClaimIndex>,
    random: Random,
    runs: Vec<String>,
    /// The claimed tasks that no call has ended, with their lease tokens.
    claimed: Vec<(String, String)>,
    ended: Vec<String>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::starting_at(START);
        let store = Store::open_at(
            &TestDatabase::in_folder(folder.path()).location(),
            Arc::new(clock.clone()),
            Box::new(|_| {}),
        )
        .unwrap();
        let overlaps = Arc::<Overlaps>::default();
        let index = Arc::new(ClaimIndex::new(Arc::clone(&overlaps)));
        let random = Random::new(seed);
        let mut world = Self {
            store,
            clock,
            overlaps,
            index,
            random,
            runs: vec![],
            claimed: vec![],
            ended: vec![],
            _folder: folder,
        };
        for number in 0..4 {
            let repo_path = format!("/repo/{}", number % 2);
            let draft = RunDraft { goal: "g".into(), repo_path, labels: Default::default() };
            let created = world.store.transact(move |tx| run::create(tx, &draft)).await.unwrap();
            world.runs.push(created.id);
        }
        world
    }

    fn random_draft(&mut self) -> TaskDraft {
        let paths = ["src", "src/a", "src/*/b", "docs", "docs/**/x.md", "lib"];
        let random = &mut self.random;
        let mut spec = TaskSpec { title: "t".into(), ..TaskSpec::default() };
        spec.priority = i32::try_from(random.below(3)).unwrap();
        spec.allowed_paths = (0..random.below(3)).map(|_| pick(random, &paths).to_owned()).collect();
        spec.required_capabilities = (0..random.below(3)).map(|_| pick(random, &["gpu", "net"]).to_owned()).collect();
        if random.below(5) == 0 {
            spec.not_before_time = Some(self.clock.now().plus(Duration::from_secs(1 + random.below(20) as u64)));
        }
        TaskDraft { spec, ..TaskDraft::default() }
    }

    /// Makes one random change. If the rules do not allow the change, the function ignores the error.
    async fn change(&mut self) {
        let run_id = pick(&mut self.random, &self.runs);
        match self.random.below(12) {
            0..=3 => self.add_tasks(run_id).await,
            4..=6 if !self.claimed.is_empty() => self.end_task().await,
            7 if !self.ended.is_empty() => {
                let task_id = pick(&mut self.random, &self.ended);
                let _ = self.store.transact(move |tx| task::requeue(tx, &task_id, "")).await;
            }
            8 => self.pause_or_resume(run_id).await,
            9 => self.set_status(run_id).await,
            10 => self.clock.advance(Duration::from_secs(5)),
            _ => self.expire_leases().await,
        }
    }

    async fn add_tasks(&mut self, run_id: String) {
        let mut drafts: Vec<TaskDraft> = (0..=self.random.below(4)).map(|_| self.random_draft()).collect();
        for at in 1..drafts.len() {
            drafts[at - 1].key = at.to_string();
            if self.random.below(3) == 0 {
                drafts[at].depends_on = vec![at.to_string()];
            }
        }
        let _ = self.store.transact(move |tx| plan::add(tx, &run_id, &drafts)).await;
    }

    async fn end_task(&mut self) {
        let (task_id, token) = self.claimed.swap_remove(self.random.below(self.claimed.len()));
        let to = pick(
            &mut self.random,
            &[EndStatus::Completed, EndStatus::Released, EndStatus::Failed, EndStatus::Abandoned],
        );
        let retry_delay = (self.random.below(2) == 0).then_some(Duration::from_secs(8));
        let ending = Ending { retry_delay, ..Ending::new(to) };
        self.ended.push(task_id.clone());
        let end = EndTask { rpc: "R", task_id, caller: Caller::Holder(token), ending };
        let _ = self.store.transact(move |tx| task::end(tx, &end).map(drop)).await;
    }

    async fn pause_or_resume(&mut self, run_id: String) {
        let is_pause = self.random.below(2) == 0;
        let change =
            move |tx: &mut dyn Tx| if is_pause { run::pause(tx, &run_id, "") } else { run::resume(tx, &run_id, "") };
        let _ = self.store.transact(change).await;
    }

    async fn set_status(&mut self, run_id: String) {
        let status =
            pick(&mut self.random, &[RunStatus::Running, RunStatus::Running, RunStatus::Completed, RunStatus::Blocked]);
        let update = RunUpdate { status: Some(status), ..RunUpdate::default() };
        let _ = self.store.transact(move |tx| run::update(tx, &run_id, &update)).await;
    }

    async fn expire_leases(&mut self) {
        self.clock.advance(Duration::from_secs(20));
        let now = self.clock.now();
        let due = self.store.read(move |tx| due::find(tx, now)).await.unwrap();
        for key in due.leases {
            self.store.transact(move |tx| lease::expire(tx, key, now)).await.unwrap();
        }
    }

    /// Claims a task with random criteria, and checks that the claim finds the task that a search over all tasks finds.
    /// Returns whether the claim found a task.
    async fn claim(&mut self) -> bool {
        let run_id = (self.random.below(2) == 0).then(|| pick(&mut self.random, &self.runs));
        let capabilities: Vec<String> =
            ["gpu", "net"].iter().filter(|_| self.random.below(2) == 0).map(ToString::to_string).collect();
        let request = claim::ClaimRequest { run_id, agent_id: "agent".into(), capabilities, lease_duration: LEASE };
        let mut tries = 0;
        loop {
            let index = Arc::clone(&self.index);
            let asked = request.clone();
            let body = move |tx: &mut dyn Tx| {
                let expected = find_by_search(tx, &asked)?;
                let outcome = claim::claim(tx, &asked, &index, tries)?;
                let is_stored = tx.has_written() && matches!(outcome, Outcome::Done(None));
                assert!(!is_stored, "the server would store the response of a claim that found no task");
                Ok((expected, outcome))
            };
            match self.store.transact(body).await {
                Ok((expected, Outcome::Done(claim))) => {
                    assert_eq!(claim.as_ref().map(|claim| claim.task.key), expected, "{request:?}");
                    let is_claim = claim.is_some();
                    self.claimed.extend(claim.map(|claim| (claim.task.id, claim.lease.token)));
                    return is_claim;
                }
                Ok((_, Outcome::Postponed(work))) => self.prepare(work).await,
                Ok((_, Outcome::Rejected(error))) => panic!("the claim was rejected: {error}"),
                Err(error) => {
                    assert!(matches!(error, Error::RunEnded { .. }), "{error}");
                    return false;
                }
            }
            tries += 1;
            assert!(tries < 50, "the claim is postponed forever");
        }
    }

    async fn prepare(&self, work: Postponed) {
        match work {
            Postponed::Load => {
                let index = Arc::clone(&self.index);
                let loading = Mutex::new(Loading::default());
                let load = move |tx: &mut dyn Tx| index.load_page(tx, &mut loading.lock().unwrap());
                assert!(self.store.read(load).await.unwrap(), "the index has several pages");
            }
            Postponed::Undecided(undecided) => {
                let overlaps = Arc::clone(&self.overlaps);
                let sets = undecided.sets.len();
                let decide = move |tx: &mut dyn Tx| overlaps.decide_slice(tx, &undecided, 0);
                assert_eq!(self.store.read(decide).await, Ok(sets));
            }
            Postponed::Again => {}
        }
    }

    /// Makes changes and claims in a transaction that is rolled back.
    async fn roll_back_changes(&mut self) {
        let run_id = pick(&mut self.random, &self.runs);
        let drafts = vec![self.random_draft(), self.random_draft()];
        let ended = self.claimed.first().cloned();
        let index = Arc::clone(&self.index);
        let ends_run_first = self.random.percent(50);
        let end_run = |tx: &mut dyn Tx, run_id: &str| {
            let update = RunUpdate { status: Some(RunStatus::Completed), ..RunUpdate::default() };
            drop(run::update(tx, run_id, &update));
        };
        let body = move |tx: &mut dyn Tx| -> Result<()> {
            if ends_run_first {
                end_run(tx, &run_id);
            }
            let _ = plan::add(tx, &run_id, &drafts);
            if let Some((task_id, token)) = &ended {
                let caller = Caller::Holder(token.clone());
                let ending = Ending::new(EndStatus::Completed);
                let _ = task::end(tx, &EndTask { rpc: "R", task_id: task_id.clone(), caller, ending });
            }
            for run_id in [None, Some(run_id.clone())] {
                let capabilities = vec!["gpu".to_owned()];
                let request =
                    claim::ClaimRequest { run_id, agent_id: "agent".into(), capabilities, lease_duration: LEASE };
                for _ in 0..3 {
                    let _ = claim::claim(tx, &request, &index, 0);
                }
            }
            end_run(tx, &run_id);
            let request = claim::ClaimRequest {
                run_id: None,
                agent_id: "agent".into(),
                capabilities: vec![],
                lease_duration: LEASE,
            };
            let _ = claim::claim(tx, &request, &index, 0);
            Err(Error::internal("the test rolls the transaction back"))
        };
        self.store.transact(body).await.unwrap_err();
    }
}

/// Returns the task that a claim must find, by a search over all tasks.
fn find_by_search(tx: &mut dyn Tx, request: &claim::ClaimRequest) -> Result<Option<Key>> {
    let everything = Limit { rows: usize::MAX, bytes: usize::MAX };
    let all_runs = runs::list(tx, i64::MAX, i64::MAX, everything)?.rows;
    let mut leased: BTreeMap<String, Vec<Task>> = BTreeMap::new();
    let mut pending = Vec::new();
    for run in &all_runs {
        let last_served = runs::find_claim_state(tx, run.key)?.map(|state| state.last_served);
        for task in tasks::list(tx, run.key, 0, everything)?.rows {
            if task.status == TaskStatus::InProgress {
                leased.entry(run.repo_path.clone()).or_default().push(task);
            } else if run.status.allows_claims() && task.is_ready(tx.now()) {
                pending.push((run, last_served, task));
            }
        }
    }
    let is_asked = |run_id: &str| request.run_id.as_deref().is_none_or(|asked| asked == run_id);
    let claimable = pending.into_iter().filter(|(run, _, task)| {
        is_asked(&run.id)
            && contains_all(&request.capabilities, &task.spec.required_capabilities)
            && !leased.get(&run.repo_path).is_some_and(|leased| leased.iter().any(|other| overlap(task, other)))
    });
    let rank = |(run, last_served, task): &(&Run, Option<i64>, Task)| {
        (Reverse(task.spec.priority), *last_served, run.key, task.ordinal)
    };
    Ok(claimable.min_by_key(rank).map(|(_, _, task)| task.key))
}

fn overlap(a: &Task, b: &Task) -> bool {
    let globs =
        |task: &Task| GlobSet::new(task.spec.allowed_paths.iter().map(|path| Glob::parse(path).unwrap()).collect());
    globs(a).find_overlap(&globs(b)) != Overlap::None
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_finds_the_task_that_a_search_over_all_tasks_finds() {
    for seed in 0..12 {
        let mut world = World::new(seed).await;
        let mut claims = 0;
        for _ in 0..250 {
            for _ in 0..world.random.below(3) {
                world.change().await;
            }
            if world.random.below(6) == 0 {
                world.roll_back_changes().await;
            }
            claims += usize::from(world.claim().await);
        }
        assert!(claims > 40, "only {claims} claims found a task with the seed {seed}");
    }
}

/// A server that starts on an existing database reads all classes.
#[tokio::test(flavor = "multi_thread")]
async fn new_index_finds_the_same_task_as_an_index_that_followed_all_changes() {
    let mut world = World::new(99).await;
    for _ in 0..300 {
        for _ in 0..2 {
            world.change().await;
        }
        world.index = Arc::new(ClaimIndex::new(Arc::clone(&world.overlaps)));
        world.claim().await;
    }
}

/// Number of runs that are deleted between two claims.
const DELETED: usize = 20;
/// The index checks one run each time it has read changes this number of times.
const SYNCS_PER_CHECK: usize = 16;

fn add_run_with_task(tx: &mut dyn Tx) -> Result<String> {
    let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
    let run = run::create(tx, &draft)?;
    plan::add(tx, &run.id, &[TaskDraft::default()])?;
    Ok(run.id)
}

fn end_and_delete(tx: &mut dyn Tx, run_id: &str) -> Result<()> {
    let run = runs::get(tx, run_id)?;
    runs::save(tx, &Run { status: RunStatus::Completed, ..run })?;
    deletion::delete(tx, run_id, None)
}

#[tokio::test]
async fn runs_that_are_deleted_between_claims_leave_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_at(
        &TestDatabase::in_folder(folder.path()).location(),
        Arc::new(ManualClock::starting_at(START)),
        Box::new(|_| {}),
    )
    .unwrap();
    let index = Arc::new(ClaimIndex::default());
    let loaded = Arc::clone(&index);
    let add_and_load = move |tx: &mut dyn Tx| {
        let ids = (0..DELETED).map(|_| add_run_with_task(tx)).collect::<Result<Vec<String>>>();
        loaded.load_page(tx, &mut Loading::default())?;
        ids
    };
    let ids = store.transact(add_and_load).await.unwrap();
    assert_eq!(index.run_count(), DELETED);
    store.transact(move |tx| ids.iter().try_for_each(|id| end_and_delete(tx, id))).await.unwrap();
    for _ in 0..2 * DELETED * SYNCS_PER_CHECK {
        let index = Arc::clone(&index);
        let claim = move |tx: &mut dyn Tx| {
            tx.next_claim_version()?;
            // A claim in one run does not look at the other runs.
            index.find_next(tx, Scope { run_key: Some(0), capabilities: &[] }, 0).map(drop)
        };
        store.transact(claim).await.unwrap();
    }
    assert_eq!(index.run_count(), 0);
}
