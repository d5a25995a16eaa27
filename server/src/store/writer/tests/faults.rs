//! The tests in this module run the writer on a database that fails.

use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::domain::time::{ClockStep, Timestamp};
use crate::store::faulty::{self, Fault, Faults, Step, broken_database_error};

pub(super) fn open_faulty(folder: &TempDir) -> (Store, Faults) {
    open_faulty_with(folder, |_| {})
}

fn open_faulty_with(folder: &TempDir, listener: impl Fn(&[Signal]) + Send + Sync + 'static) -> (Store, Faults) {
    faulty::open(&folder.path().join("db"), Arc::new(SystemClock::new()), Box::new(listener))
}

/// Adds a run and assigns an event position, as most writing calls do.
pub(super) fn add_run_and_event(tx: &mut dyn Tx, id: &str) -> Result<i64> {
    add_run(tx, id)?;
    tx.next_position()
}

/// Waits at the barrier of a `SlowCommit` fault without blocking the runtime.
async fn wait_at_barrier(barrier: &Arc<Barrier>) {
    let barrier = Arc::clone(barrier);
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
}

/// Sets a `SlowCommit` fault, sends a call, and waits until the call's commit is held. Returns the barrier, which
/// releases the commit, and the call.
async fn hold_commit(
    store: &Store,
    faults: &Faults,
    body: impl Fn(&mut dyn Tx) -> Result<()> + Send + 'static,
) -> (Arc<Barrier>, JoinHandle<Result<()>>) {
    let barrier = Arc::new(Barrier::new(2));
    faults.set(Fault::SlowCommit(Arc::clone(&barrier)));
    let call = send(store, body).await;
    wait_at_barrier(&barrier).await;
    (barrier, call)
}

/// A call that waited for a long transaction is committed before the pages of this transaction are copied.
#[tokio::test(flavor = "multi_thread")]
async fn due_checkpoint_waits_for_one_group_of_queued_calls() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let (barrier, long) = hold_commit(&store, &faults, |tx| add_run(tx, "long")).await;
    faults.clear();
    faults.make_checkpoint_due();
    let queued = send(&store, |tx| add_run(tx, "queued")).await;
    wait_at_barrier(&barrier).await;
    assert_eq!((long.await.unwrap(), queued.await.unwrap()), (Ok(()), Ok(())));
    store.close().await;
    assert_eq!(faults.take_steps(), [Step::Commit, Step::Commit, Step::Checkpoint]);
}

#[tokio::test(flavor = "multi_thread")]
async fn due_checkpoint_is_postponed_by_at_most_one_group() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let (barrier, first) = hold_commit(&store, &faults, |tx| add_run(tx, "first")).await;
    faults.make_checkpoint_due();
    let second = send(&store, |tx| add_run(tx, "second")).await;
    wait_at_barrier(&barrier).await;
    wait_at_barrier(&barrier).await;
    let third = send(&store, |tx| add_run(tx, "third")).await;
    faults.clear();
    wait_at_barrier(&barrier).await;
    for call in [first, second, third] {
        assert_eq!(call.await.unwrap(), Ok(()));
    }
    store.close().await;
    assert_eq!(faults.take_steps(), [Step::Commit, Step::Commit, Step::Checkpoint, Step::Commit]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_before_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let barrier = Arc::new(Barrier::new(2));
    faults.set(Fault::SlowCheckpoint(Arc::clone(&barrier)));
    faults.make_checkpoint_due();
    assert_eq!(store.transact(|tx| add_run(tx, "answered")).await, Ok(()));
    assert_eq!(faults.take_steps(), [Step::Commit]);
    wait_at_barrier(&barrier).await;
    store.close().await;
    assert_eq!(faults.take_steps(), [Step::Checkpoint]);
}

#[tokio::test]
async fn due_checkpoint_runs_at_once_if_no_call_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    faults.make_checkpoint_due();
    assert_eq!(store.transact(|tx| add_run(tx, "only")).await, Ok(()));
    store.close().await;
    assert_eq!(faults.take_steps(), [Step::Commit, Step::Checkpoint]);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_commit_delays_later_calls_and_keeps_call_order() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let (barrier, first) = hold_commit(&store, &faults, |tx| add_run_and_event(tx, "first").map(drop)).await;
    faults.clear();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut later = Vec::new();
    for number in 0..300 {
        let order = Arc::clone(&order);
        let body = move |tx: &mut dyn Tx| {
            order.lock().unwrap().push((number, add_run_and_event(tx, &number.to_string())?));
            Ok(())
        };
        later.push(send(&store, body).await);
    }
    assert!(!first.is_finished() && !exists(&store, "first").await, "the commit is not answered before it succeeds");
    assert_eq!(store.queued_calls(), 300);
    wait_at_barrier(&barrier).await;
    assert_eq!(first.await.unwrap(), Ok(()));
    for call in later {
        assert_eq!(call.await.unwrap(), Ok(()));
    }
    let expected: Vec<(i32, i64)> = (0..300).zip(2..).collect();
    assert_eq!(*order.lock().unwrap(), expected);
    assert!(exists(&store, "first").await && exists(&store, "299").await);
}

/// If the outcome of a commit is unknown, the caller must not be told that the call succeeded, and no position may be
/// assigned twice.
#[tokio::test]
async fn dropped_response_of_successful_commit_fails_call_and_keeps_position() {
    let folder = tempfile::tempdir().unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let received = Arc::clone(&received);
        move |signals: &[Signal]| received.lock().unwrap().extend_from_slice(signals)
    };
    let (store, faults) = open_faulty_with(&folder, listener);
    let growth = store.log_growth();
    faults.set(Fault::LostSuccess);
    let lost = store.transact(|tx| {
        tx.signal(Signal::RunEnded(1));
        add_run_and_event(tx, "lost")
    });
    assert_eq!(lost.await, Err(Error::StoreBusy));
    faults.clear();
    assert!(exists(&store, "lost").await);
    assert_eq!(*growth.borrow(), 1, "watchers are notified, because they can read the event");
    assert_eq!(*received.lock().unwrap(), [Signal::RunEnded(1)]);
    assert_eq!(store.transact(|tx| add_run_and_event(tx, "next")).await, Ok(2));
}

#[tokio::test]
async fn dropped_response_of_failed_commit_fails_call_and_reuses_position() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let growth = store.log_growth();
    let before = store.transact(|tx| tx.next_key()).await.unwrap();
    let version = store.claim_version().await.unwrap();
    faults.set(Fault::LostFailure);
    assert_eq!(store.transact(|tx| add_run_and_event(tx, "lost")).await, Err(Error::StoreBusy));
    faults.clear();
    assert!(!exists(&store, "lost").await && !growth.has_changed().unwrap());
    assert_ne!(store.claim_version().await.unwrap(), version, "a cached result of a rolled-back claim is invalid");
    let assigned = store.transact(move |tx| {
        assert_eq!(tx.transaction().committed_key, before);
        Ok((tx.next_key()?, tx.next_position()?))
    });
    assert_eq!(assigned.await, Ok((before + 1, 1)));
}

#[tokio::test]
async fn broken_database_fails_calls_until_repair() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    faults.set(Fault::Broken);
    for _ in 0..3 {
        assert_eq!(store.transact(|tx| add_run_and_event(tx, "lost")).await, Err(broken_database_error()));
    }
    faults.clear();
    assert_eq!(store.transact(|tx| add_run_and_event(tx, "next")).await, Ok(1));
    assert!(!exists(&store, "lost").await && exists(&store, "next").await);
}

/// A restarted server reads the last position from the database file, so new positions continue after the commit with
/// the unknown outcome.
#[tokio::test]
async fn positions_continue_after_unknown_commit_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    faults.set(Fault::LostSuccess);
    assert_eq!(store.transact(|tx| add_run_and_event(tx, "lost")).await, Err(Error::StoreBusy));
    store.close().await;
    drop(store);
    assert_eq!(open(&folder).transact(|tx| add_run_and_event(tx, "next")).await, Ok(2));
}

#[tokio::test]
async fn server_follows_a_clock_step_only_after_the_commit() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::starting_at(Timestamp::from_micros(0).plus(HOUR * 100));
    let (store, faults) = faulty::open(&folder.path().join("db"), Arc::new(clock.clone()), Box::new(|_| {}));
    clock.set_back(HOUR);
    let (before, step) = (clock.now(), clock.step());
    let follow = move |tx: &mut dyn Tx| {
        tx.step_clock(step)?;
        tx.next_key().map(drop)
    };
    faults.set(Fault::Broken);
    assert_eq!(store.transact(follow).await, Err(broken_database_error()));
    assert_eq!((clock.now(), clock.step()), (before, step));
    faults.clear();
    // A later body of the group already uses the new time.
    let held = HeldWriter::hold(&store).await;
    let first = send(&store, follow).await;
    let later = send(&store, move |tx| {
        assert_eq!(tx.now(), before.after_step(step));
        Ok(())
    })
    .await;
    held.release().await;
    assert_eq!((first.await.unwrap(), later.await.unwrap()), (Ok(()), Ok(())));
    assert_eq!((clock.now(), clock.step()), (before.after_step(step), ClockStep::NONE));
}
