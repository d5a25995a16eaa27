//! The tests in this module run the sweeper on a database that fails or is slow.

use std::sync::Barrier;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::actions::claim::{self, Claim, ClaimRequest};
use crate::actions::claim_index::{ClaimIndex, Loading};
use crate::actions::{Outcome, plan, run};
use crate::clock::ManualClock;
use crate::domain::run::RunDraft;
use crate::domain::task::{TaskDraft, TaskSpec};
use crate::store::faulty::{self, Fault, Faults};
use crate::store::{StoreState, tasks};

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

    /// Claims a task with the given lease duration and returns the task.
    async fn claim_task(&self, lease_duration: Duration) -> Task {
        self.add_task(self.clock.now()).await;
        let index = ClaimIndex::default();
        let claimed = self.store.transact(move |tx| {
            let mut loading = Loading::default();
            while !index.load_page(tx, &mut loading)? {}
            let (agent_id, capabilities) = ("agent".into(), vec![]);
            let request = ClaimRequest { run_id: None, agent_id, capabilities, lease_duration };
            match claim::claim(tx, &request, &index, 0)? {
                Outcome::Done(Some(Claim { task, .. })) => Ok(task),
                _ => Err(Error::internal("the claim must find the task")),
            }
        });
        claimed.await.unwrap()
    }

    /// Returns the time when the lease of a task expires, or None if no agent holds a lease.
    async fn lease_end(&self, task_id: &str) -> Option<Timestamp> {
        let id = task_id.to_owned();
        let task = self.store.read(move |tx| tasks::get(tx, &id)).await.unwrap();
        task.lease.clone().filter(|_| task.is_held()).map(|lease| lease.expire_time)
    }

    /// Fails a write on a full disk, which tells the store that the disk is full.
    async fn fill_disk(&self) {
        self.faults.set(Fault::FullDiskAtCommit);
        let written = self.store.transact(|tx| tx.next_key().map(drop)).await;
        assert_eq!(written, Err(Error::StoreFull));
    }

    /// Ends the full disk, and waits until the sweeper has extended the leases.
    async fn free_disk(&self) {
        self.faults.clear();
        let mut states = self.store.state();
        let is_writable = |state: &StoreState| *state == StoreState::Writable;
        // The sweeper tries once for each `RETRY` of its clock. The first try can have started before the disk was
        // freed.
        let advance = async {
            loop {
                self.clock.advance(RETRY);
                if timeout(RETRY, states.wait_for(is_writable)).await.is_ok() {
                    break;
                }
            }
        };
        timeout(SOON, advance).await.expect("the sweeper must extend the leases");
    }

    /// Moves the clock forward in steps of a second, which the sweeper does not take for a stall.
    async fn pass_seconds(&self, seconds: u32) {
        for _ in 0..seconds {
            self.clock.advance(RETRY);
            tokio::task::yield_now().await;
        }
    }

    async fn has_delayed_task(&self) -> bool {
        self.store.read(|tx| Ok(due::next_delay_end(tx)?.is_some())).await.unwrap()
    }
}

/// The extension of the leases fails after a stall. The sweeper tries again once for each `RETRY`, even if other
/// actions become due.
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

/// The disk is full for ten times the duration of a lease, and holders can't send heartbeats meanwhile.
#[tokio::test]
async fn no_lease_expires_for_the_time_of_a_full_disk() {
    const LEASE: Duration = Duration::from_secs(60);
    let swept = Swept::start();
    let task = swept.claim_task(LEASE).await;
    swept.fill_disk().await;
    swept.pass_seconds(600).await;
    assert!(swept.lease_end(&task.id).await.is_some_and(|end| end < swept.clock.now()));
    swept.free_disk().await;
    let end = swept.lease_end(&task.id).await.expect("the lease must not expire");
    assert!(end > swept.clock.now(), "the holder has time to send a heartbeat");
    // Without a heartbeat, the lease expires as usual.
    swept.clock.advance(LEASE);
    let expired = async { while swept.lease_end(&task.id).await.is_some() {} };
    timeout(SOON, expired).await.expect("the lease must expire");
}

/// The lease has expired before the disk becomes full, and the sweeper could not expire the lease in time.
#[tokio::test]
async fn full_disk_extends_no_lease_that_had_expired_before() {
    const LEASE: Duration = Duration::from_secs(60);
    let swept = Swept::start();
    let task = swept.claim_task(LEASE).await;
    swept.faults.set(Fault::FullDiskAtCommit);
    // The sweeper fails to expire the lease, which tells the store that the disk is full.
    swept.clock.advance(LEASE + RETRY);
    swept.until(|swept| swept.store.full_since().is_some()).await;
    swept.free_disk().await;
    let expired = async { while swept.lease_end(&task.id).await.is_some() {} };
    timeout(SOON, expired).await.expect("the lease must expire");
}

/// Another program has locked the database for ten times the duration of a lease.
#[tokio::test]
async fn no_lease_expires_while_another_program_has_locked_the_database() {
    const LEASE: Duration = Duration::from_secs(60);
    let swept = Swept::start();
    let task = swept.claim_task(LEASE).await;
    swept.faults.set(Fault::Locked);
    assert_eq!(swept.store.transact(|tx| tx.next_key()).await, Err(Error::StoreBusy));
    swept.pass_seconds(600).await;
    swept.faults.clear();
    let recovered = async {
        let extended = async || {
            while swept.store.stalled_since().is_some() {
                tokio::task::yield_now().await;
            }
        };
        loop {
            swept.clock.advance(RETRY);
            if timeout(RETRY, extended()).await.is_ok() {
                break;
            }
        }
    };
    timeout(SOON, recovered).await.expect("the sweeper must extend the leases");
    let end = swept.lease_end(&task.id).await.expect("the lease must not expire");
    assert!(end > swept.clock.now(), "the holder has time to send a heartbeat");
}

/// The commit of another call takes longer than a lease. The expiry of the lease is queued before the commit ends.
#[tokio::test(flavor = "multi_thread")]
async fn no_lease_expires_for_a_slow_commit() {
    const LEASE: Duration = Duration::from_secs(60);
    let swept = Swept::start();
    swept.sweeping.abort();
    let task = swept.claim_task(LEASE).await;
    let begun = swept.clock.now();
    let barrier = Arc::new(Barrier::new(2));
    swept.faults.set(Fault::SlowCommit(Arc::clone(&barrier)));
    let wait = || {
        let barrier = Arc::clone(&barrier);
        tokio::task::spawn_blocking(move || barrier.wait())
    };
    let stall = async {
        wait().await.unwrap();
        swept.clock.stall(2 * LEASE);
        let now = swept.clock.now();
        let due = swept.store.read_as_server(move |tx| due::find(tx, now)).await.unwrap();
        let store = swept.store.clone();
        let expiry = tokio::spawn(async move { process_due_rows(&store, due, now).await });
        swept.until(|swept| swept.store.queued_calls() > 0).await;
        swept.faults.clear();
        wait().await.unwrap();
        expiry.await.unwrap().unwrap();
    };
    let (written, ()) = tokio::join!(swept.store.transact(|tx| tx.next_key().map(drop)), stall);
    assert_eq!(written, Ok(()));
    assert_eq!(swept.store.stalled_since(), Some(begun));
    assert!(swept.lease_end(&task.id).await.is_some(), "the lease must not expire");
    // This sweeper has not seen the stall itself.
    let clock = Arc::new(swept.clock.clone());
    Sweeper::new(swept.store.clone(), clock, Arc::clone(&swept.waiters)).sweep().await.unwrap();
    assert!(swept.lease_end(&task.id).await.is_some_and(|end| end > swept.clock.now()));
    assert_eq!(swept.store.stalled_since(), None);
}
