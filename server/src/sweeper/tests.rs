//! The tests in this module run the sweeper on a database that fails or is slow.

use std::sync::Barrier;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::actions::{plan, run};
use crate::clock::ManualClock;
use crate::domain::run::RunDraft;
use crate::domain::task::{TaskDraft, TaskSpec};
use crate::store::faulty::{self, Fault, Faults};

/// Maximum time that a test waits for the sweeper.
const SOON: Duration = Duration::from_secs(20);

/// A sweeper on a database whose writer can fail.
struct Swept {
    store: Store,
    faults: Faults,
    clock: ManualClock,
    waiters: Arc<Waiters>,
    sweeping: JoinHandle<()>,
    _drain: watch::Sender<bool>,
    _folder: TempDir,
}

impl Swept {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::starting_at(Timestamp::from_micros(0).plus(Duration::from_secs(1_000_000)));
        let waiters = Arc::new(Waiters::default());
        let shared_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let (store, faults) = faulty::open(&folder.path().join("db"), Arc::clone(&shared_clock), waiters.listener());
        let (drain, draining) = watch::channel(false);
        let sweeper = Sweeper::new(store.clone(), shared_clock, Arc::clone(&waiters));
        let sweeping = tokio::spawn(sweeper.run(draining));
        Self { store, faults, clock, waiters, sweeping, _drain: drain, _folder: folder }
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, wait).await.expect("the condition must become true");
    }

    /// Adds a run with a task whose `not_before_time` is `not_before_time`.
    async fn add_task(&self, not_before_time: Timestamp) {
        let added = self.store.transact(move |tx| {
            let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
            let run = run::create(tx, &draft)?;
            let spec = TaskSpec { title: "t".into(), not_before_time: Some(not_before_time), ..TaskSpec::default() };
            plan::add(tx, &run.id, &[TaskDraft { key: "t".into(), spec, depends_on: vec![] }]).map(drop)
        });
        added.await.unwrap();
    }

    async fn has_delayed_task(&self) -> bool {
        self.store.read(|tx| Ok(due::next_delay_end(tx)?.is_some())).await.unwrap()
    }
}

/// The extension of the leases fails after a stall. The sweeper tries again once for each `RETRY`, even if other actions
/// become due.
#[tokio::test]
async fn failed_recovery_is_retried_after_a_second() {
    /// The writer begins a failed transaction a second time, without the other calls of the group.
    const FAILURES: usize = 2;
    let swept = Swept::start();
    swept.faults.set(Fault::Broken);
    swept.clock.stall(Duration::from_secs(5));
    swept.until(|swept| swept.faults.failures() == FAILURES).await;
    swept.waiters.due_timer.bring_forward(swept.clock.now());
    // While these calls fail one after another, a sweeper without a pause would fail again and again.
    const CALLS: usize = 100;
    for _ in 0..CALLS {
        assert!(swept.store.transact(|_| Ok(())).await.is_err());
    }
    assert_eq!(swept.faults.failures(), FAILURES * (1 + CALLS));
    swept.clock.advance(RETRY);
    swept.until(|swept| swept.faults.failures() == FAILURES * (2 + CALLS)).await;
    swept.faults.clear();
    swept.clock.advance(RETRY);
    assert_eq!(swept.store.transact(|_| Ok(())).await, Ok(()));
}

#[tokio::test]
async fn sweeper_ends_when_the_store_is_closed() {
    let swept = Swept::start();
    swept.store.close().await;
    swept.clock.stall(Duration::from_secs(5));
    timeout(SOON, swept.sweeping).await.expect("the sweeper must end").unwrap();
}

/// The `not_before_time` of a task passes while the transaction that adds the task is still committing. Meanwhile the
/// sweeper looks for due rows, because another time is due, and does not see the task.
#[tokio::test(flavor = "multi_thread")]
async fn task_that_became_due_during_its_commit_is_announced() {
    let swept = Swept::start();
    let barrier = Arc::new(Barrier::new(2));
    swept.faults.set(Fault::SlowCommit(Arc::clone(&barrier)));
    let time = swept.clock.now().plus(Duration::from_secs(3));
    let wait = || {
        let barrier = Arc::clone(&barrier);
        tokio::task::spawn_blocking(move || barrier.wait())
    };
    let release = async {
        wait().await.unwrap();
        swept.clock.advance(Duration::from_secs(10));
        swept.waiters.due_timer.bring_forward(swept.clock.now());
        swept.until(|swept| swept.waiters.due_timer.next_time().is_none()).await;
        swept.faults.clear();
        wait().await.unwrap();
    };
    tokio::join!(swept.add_task(time), release);
    let announced = async { while swept.has_delayed_task().await {} };
    timeout(SOON, announced).await.expect("the sweeper must end the delay");
}
