//! The tests in this module run the writer on a full disk and on a disk that fails.

use super::faults::{add_run_and_event, open_faulty};
use super::*;
use crate::domain::time::Timestamp;
use crate::store::faulty::{Fault, Step, full_disk_error, io_error};
use crate::store::{JobOptions, StoreFailure, StoreState};

/// Runs the transaction that extends the leases after a full disk, and returns the transaction's result.
async fn recover(store: &Store, since: Timestamp) -> Result<i64> {
    store.transact_with(JobOptions::recovering_since(since), |tx| tx.next_key()).await
}

fn state(store: &Store) -> StoreState {
    store.state().borrow().clone()
}

/// Fills the disk and returns the start of the time without writes.
async fn fill_disk(store: &Store, faults: &crate::store::faulty::Faults) -> Timestamp {
    faults.set(Fault::FullDiskAtCommit);
    assert_eq!(store.transact(|tx| add_run(tx, "filling")).await, Err(full_disk_error()));
    store.full_since().unwrap()
}

/// The disk becomes full in the middle of a group, after the first transaction body of the group has written.
#[tokio::test]
async fn full_disk_fails_the_whole_group_at_once_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let growth = store.log_growth();
    let held = HeldWriter::hold(&store).await;
    let (first, first_runs) = send_counted(&store, "first").await;
    let filling = {
        let faults = faults.clone();
        send(&store, move |tx| {
            faults.set(Fault::FullDisk);
            add_run_and_event(tx, "filling").map(drop)
        })
    };
    let filling = filling.await;
    let (last, last_runs) = send_counted(&store, "last").await;
    held.release().await;
    for call in [first, filling, last] {
        assert_eq!(call.await.unwrap(), Err(full_disk_error()));
    }
    let runs = (first_runs.load(Ordering::SeqCst), last_runs.load(Ordering::SeqCst));
    assert_eq!(runs, (1, 0), "the writer does not try the calls again one by one");
    faults.clear();
    assert_eq!(recover(&store, Timestamp::from_micros(0)).await.map(drop), Ok(()));
    assert!(!exists(&store, "first").await && !exists(&store, "filling").await && !exists(&store, "last").await);
    assert!(!growth.has_changed().unwrap());
    assert_eq!(store.transact(|tx| add_run_and_event(tx, "next")).await, Ok(1));
}

#[tokio::test]
async fn full_disk_at_commit_fails_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let held = HeldWriter::hold(&store).await;
    let (good, runs) = send_counted(&store, "good").await;
    let rejected = send(&store, |_| Err(create_failure())).await;
    let filling = {
        let faults = faults.clone();
        send(&store, move |_| {
            faults.set(Fault::FullDiskAtCommit);
            Ok(())
        })
    };
    let filling = filling.await;
    held.release().await;
    assert_eq!((good.await.unwrap(), runs.load(Ordering::SeqCst)), (Err(full_disk_error()), 1));
    assert_eq!(filling.await.unwrap(), Err(full_disk_error()));
    assert!(rejected.await.unwrap().is_err());
    assert!(matches!(state(&store), StoreState::Full { .. }));
}

/// A transaction that runs before the leases are extended could expire a lease whose holder could send no heartbeat.
#[tokio::test]
async fn first_transaction_after_a_full_disk_extends_the_leases() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    let since = fill_disk(&store, &faults).await;
    faults.take_steps();
    assert_eq!(store.transact(|tx| add_run(tx, "refused")).await, Err(full_disk_error()));
    assert_eq!(faults.take_steps(), [], "the writer does not try to commit");
    assert_eq!(recover(&store, since).await, Err(full_disk_error()));
    assert_eq!(state(&store), StoreState::Full { since }, "the start of the time without writes stays the same");
    faults.clear();
    assert_eq!(store.transact(|tx| add_run(tx, "early")).await, Err(full_disk_error()));
    let later = Timestamp::from_micros(since.micros() + 1);
    assert_eq!(
        recover(&store, later).await,
        Err(full_disk_error()),
        "leases that expired before would not be extended"
    );
    assert!(recover(&store, since).await.is_ok());
    assert_eq!(state(&store), StoreState::Writable);
    assert_eq!(store.transact(|tx| add_run(tx, "next")).await, Ok(()));
}

#[tokio::test]
async fn full_disk_does_not_fail_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    assert_eq!(store.transact(|tx| add_run(tx, "run")).await, Ok(()));
    fill_disk(&store, &faults).await;
    assert!(exists(&store, "run").await);
}

#[tokio::test]
async fn checkpoint_on_a_full_disk_fails_no_call_and_is_not_repeated_after_each_group() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    faults.set(Fault::FullDiskAtCheckpoint);
    faults.make_checkpoint_due();
    for number in 0..20 {
        assert_eq!(store.transact(move |tx| add_run(tx, &number.to_string())).await, Ok(()));
    }
    store.close().await;
    let checkpoints = faults.take_steps().into_iter().filter(|step| *step == Step::Checkpoint).count();
    assert!((1..10).contains(&checkpoints), "{checkpoints} checkpoints");
    assert_eq!(state(&store), StoreState::Writable);
}

/// The queued calls must not be committed after the failure, because the server ends and answers nobody.
#[tokio::test]
async fn io_error_fails_the_store_and_all_its_calls() {
    let folder = tempfile::tempdir().unwrap();
    for fault_in_body in [false, true] {
        let (store, faults) = open_faulty(&folder);
        let held = HeldWriter::hold(&store).await;
        let failing = {
            let faults = faults.clone();
            send(&store, move |tx| {
                if fault_in_body {
                    faults.set(Fault::IoError);
                    return add_run(tx, "lost");
                }
                // The statement succeeds, and the commit fails.
                add_run(tx, "lost")?;
                faults.set(Fault::IoError);
                Ok(())
            })
        };
        let failing = failing.await;
        held.release().await;
        assert_eq!(failing.await.unwrap(), Err(io_error()));
        let mut states = store.state();
        let failed = states.wait_for(|state| *state != StoreState::Writable).await.unwrap().clone();
        assert_eq!(failed, StoreState::Failed(StoreFailure::Database(io_error().to_string())));
        faults.clear();
        assert_eq!(store.transact(|tx| add_run(tx, "late")).await, Err(Error::Draining));
        assert!(!exists(&store, "lost").await && !exists(&store, "late").await);
        store.close().await;
    }
}

#[tokio::test]
async fn io_error_at_a_checkpoint_fails_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    faults.set(Fault::IoErrorAtCheckpoint);
    faults.make_checkpoint_due();
    assert_eq!(store.transact(|tx| add_run(tx, "run")).await, Ok(()), "the commit is durable in the write-ahead log");
    let mut states = store.state();
    states.wait_for(|state| matches!(state, StoreState::Failed(_))).await.unwrap();
}

#[tokio::test]
async fn panic_of_the_writer_thread_fails_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(&folder);
    faults.set(Fault::PanicAtCommit);
    assert_eq!(store.transact(|tx| add_run(tx, "lost")).await, Err(Error::Draining));
    let mut states = store.state();
    let failed = states.wait_for(|state| *state != StoreState::Writable).await.unwrap().clone();
    assert_eq!(failed, StoreState::Failed(StoreFailure::Panicked));
    assert_eq!(store.transact(|tx| add_run(tx, "late")).await, Err(Error::Draining));
    assert!(!exists(&store, "lost").await);
}

#[tokio::test]
async fn closed_store_has_not_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_faulty(&folder);
    store.close().await;
    assert_eq!(state(&store), StoreState::Writable);
}
