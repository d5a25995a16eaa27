//! Each test in this module checks one guarantee of the writer.

mod disk;
mod faults;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::clock::SystemClock;
use crate::domain::run::{Run, RunDraft};
use crate::error::{Error, Result};
use crate::store::{OpenError, Signal, Store, Tx, imports, runs};

fn open(folder: &TempDir) -> Store {
    Store::open(&folder.path().join("db"), Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap()
}

/// Returns the error with which the transaction bodies in these tests fail.
fn create_failure() -> Error {
    Error::internal("the transaction of this test fails on purpose")
}

fn add_run(tx: &mut dyn Tx, id: &str) -> Result<()> {
    let draft = RunDraft { goal: id.into(), repo_path: "r".into(), labels: Default::default() };
    let run = Run::new(tx.next_key()?, id.into(), draft, tx.now());
    runs::insert(tx, &run)
}

async fn exists(store: &Store, id: &'static str) -> bool {
    store.read(move |tx| Ok(runs::find(tx, id)?.is_some())).await.unwrap()
}

/// Holds the writer inside a transaction body, so that the calls sent in the meantime become one group.
struct HeldWriter {
    release: mpsc::Sender<()>,
    body: JoinHandle<Result<()>>,
}

impl HeldWriter {
    async fn hold(store: &Store) -> Self {
        let (release, wait) = mpsc::channel();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let store = store.clone();
        let wait = std::sync::Mutex::new(wait);
        let entered = std::sync::Mutex::new(Some(entered));
        let body = tokio::spawn(async move {
            let body = move |_: &mut dyn Tx| {
                if let Some(entered) = entered.lock().unwrap().take() {
                    let _ = entered.send(());
                    wait.lock().unwrap().recv().unwrap();
                }
                Ok(())
            };
            store.transact(body).await
        });
        inside.await.unwrap();
        Self { release, body }
    }

    async fn release(self) {
        self.release.send(()).unwrap();
        self.body.await.unwrap().unwrap();
    }
}

/// Sends a transaction body to the writer and returns after the body is queued.
async fn send<F>(store: &Store, body: F) -> JoinHandle<Result<()>>
where
    F: Fn(&mut dyn Tx) -> Result<()> + Send + 'static,
{
    let store = store.clone();
    let (polled, was_polled) = tokio::sync::oneshot::channel();
    let sent = tokio::spawn(async move {
        let call = store.transact(body);
        tokio::pin!(call);
        // The first poll puts the call into the writer's queue.
        let first = std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context))).await;
        let _ = polled.send(());
        match first {
            std::task::Poll::Ready(done) => done,
            std::task::Poll::Pending => call.await,
        }
    });
    was_polled.await.unwrap();
    sent
}

/// Sends a transaction body that adds a run. Returns the call and a counter of the executions of the body.
async fn send_counted(store: &Store, id: &'static str) -> (JoinHandle<Result<()>>, Arc<AtomicUsize>) {
    let times = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&times);
    let body = move |tx: &mut dyn Tx| {
        counted.fetch_add(1, Ordering::SeqCst);
        add_run(tx, id)
    };
    (send(store, body).await, times)
}

/// The writer thread notices the long log, although another thread has opened the connection.
#[tokio::test(flavor = "multi_thread")]
async fn long_log_is_copied_into_the_database_file() {
    const BYTES: usize = 20_000_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let add_large_run = |tx: &mut dyn Tx| {
        let draft = RunDraft { goal: "g".repeat(BYTES), repo_path: "r".into(), labels: Default::default() };
        let run = Run::new(tx.next_key()?, "large".into(), draft, tx.now());
        runs::insert(tx, &run)
    };
    assert_eq!(store.transact(add_large_run).await, Ok(()));
    // If the second call is queued early, the checkpoint runs after the second group. The checkpoint always runs before
    // the third group.
    assert_eq!(store.transact(|tx| add_run(tx, "second")).await, Ok(()));
    assert_eq!(store.transact(|tx| add_run(tx, "third")).await, Ok(()));
    let file = std::fs::metadata(folder.path().join("db")).unwrap();
    assert!(file.len() > BYTES as u64, "{} bytes", file.len());
}

#[tokio::test]
async fn failed_transaction_body_rolls_back_only_its_own_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let good = send(&store, |tx| add_run(tx, "good")).await;
    let bad = send(&store, |tx| add_run(tx, "bad").and(Err(create_failure()))).await;
    let last = send(&store, |tx| add_run(tx, "last")).await;
    held.release().await;
    assert_eq!(good.await.unwrap(), Ok(()));
    assert_eq!(bad.await.unwrap(), Err(create_failure()));
    assert_eq!(last.await.unwrap(), Ok(()));
    assert!(exists(&store, "good").await && exists(&store, "last").await && !exists(&store, "bad").await);
}

#[tokio::test]
async fn panic_fails_only_its_own_call() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let body = |tx: &mut dyn Tx| -> Result<()> {
        add_run(tx, "half")?;
        panic!("a bug")
    };
    assert!(matches!(store.transact(body).await, Err(Error::Internal(_))));
    assert!(!exists(&store, "half").await);
    assert_eq!(store.transact(|tx| add_run(tx, "next")).await, Ok(()));
}

#[tokio::test]
async fn body_of_disconnected_caller_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let disconnected = send(&store, |tx| add_run(tx, "disconnected")).await;
    disconnected.abort();
    assert!(disconnected.await.unwrap_err().is_cancelled());
    held.release().await;
    assert_eq!(store.transact(|tx| add_run(tx, "next")).await, Ok(()));
    assert!(!exists(&store, "disconnected").await);
}

/// If SQLite rolls back the whole transaction, for example on a full disk, the other calls of the group must not fail.
#[tokio::test]
async fn bodies_run_one_by_one_after_sqlite_rolls_back_group() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let (good, runs) = send_counted(&store, "good").await;
    let breaking = send(&store, |tx| tx.execute("ROLLBACK", &[]).and(Err(create_failure()))).await;
    let last = send(&store, |tx| add_run(tx, "last")).await;
    held.release().await;
    assert_eq!(good.await.unwrap(), Ok(()));
    assert_eq!(breaking.await.unwrap(), Err(create_failure()));
    assert_eq!(last.await.unwrap(), Ok(()));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert!(exists(&store, "good").await && exists(&store, "last").await);
}

/// If a transaction body ignores a rollback and returns Ok, the writer must fail the call, because the changes of the
/// body were rolled back.
#[tokio::test]
async fn body_that_ignores_rollback_fails() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let good = send(&store, |tx| add_run(tx, "good")).await;
    let careless = send(&store, |tx| tx.execute("ROLLBACK", &[]).map(drop)).await;
    let last = send(&store, |tx| add_run(tx, "last")).await;
    held.release().await;
    assert!(matches!(careless.await.unwrap(), Err(Error::Internal(_))));
    assert_eq!((good.await.unwrap(), last.await.unwrap()), (Ok(()), Ok(())));
    assert!(exists(&store, "good").await && exists(&store, "last").await);
}

#[tokio::test]
async fn error_before_any_write_does_not_rerun_group() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let (good, runs) = send_counted(&store, "good").await;
    let refused = send(&store, |tx| tx.next_key().and(tx.next_position()).and(Err(create_failure()))).await;
    held.release().await;
    assert_eq!((good.await.unwrap(), refused.await.unwrap()), (Ok(()), Err(create_failure())));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(store.transact(|tx| tx.next_position()).await, Ok(1));
}

/// If the writer thread did not end, the thread would keep the database open.
#[tokio::test]
async fn dropped_store_ends_writer_thread() {
    let folder = tempfile::tempdir().unwrap();
    let received = Arc::new(());
    let listener = {
        let received = Arc::clone(&received);
        Box::new(move |_: &[Signal]| drop(Arc::clone(&received)))
    };
    drop(Store::open(&folder.path().join("db"), Arc::new(SystemClock::new()), listener).unwrap());
    while Arc::strong_count(&received) > 1 {
        std::thread::yield_now();
    }
}

/// SQLite checks a deferred foreign key at the commit, so the commit fails after all transaction bodies have succeeded.
#[tokio::test]
async fn bodies_run_one_by_one_after_commit_fails() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let good = send(&store, |tx| add_run(tx, "good")).await;
    let orphan = send(&store, |tx| {
        tx.execute("PRAGMA defer_foreign_keys = ON", &[])?;
        tx.execute("INSERT INTO task_dependencies (task_key, depends_on_key) VALUES (1, 2)", &[]).map(drop)
    })
    .await;
    let last = send(&store, |tx| add_run(tx, "last")).await;
    held.release().await;
    assert_eq!(good.await.unwrap(), Ok(()));
    assert!(matches!(orphan.await.unwrap(), Err(Error::Internal(_))));
    assert_eq!(last.await.unwrap(), Ok(()));
    assert!(exists(&store, "good").await && exists(&store, "last").await);
}

#[tokio::test]
async fn keys_and_positions_ascend_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let first = store.transact(|tx| Ok((tx.next_key()?, tx.next_position()?))).await.unwrap();
    store.close().await;
    assert_eq!(store.transact(|_| Ok(())).await, Err(Error::Draining));
    drop(store);
    let next = open(&folder).transact(|tx| Ok((tx.next_key()?, tx.next_position()?))).await.unwrap();
    assert_eq!(next, (first.0 + 1, first.1 + 1));
}

#[tokio::test]
async fn log_growth_is_sent_only_after_commit_with_events() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut growth = store.log_growth();
    store.transact(|tx| tx.next_position()).await.unwrap();
    growth.changed().await.unwrap();
    assert_eq!(*growth.borrow_and_update(), 1);
    // A commit without events must not notify the watchers.
    store.transact(|tx| add_run(tx, "quiet")).await.unwrap();
    assert!(!growth.has_changed().unwrap());
}

#[tokio::test]
async fn reader_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    assert!(matches!(store.read(|tx| tx.next_key()).await, Err(Error::Internal(_))));
    assert!(matches!(store.read(|tx| imports::insert(tx, "d", "k", 1)).await, Err(Error::Internal(_))));
}

#[test]
fn database_in_missing_folder_is_refused() {
    let clock = Arc::new(SystemClock::new());
    assert!(matches!(
        Store::open(Path::new("/nowhere/db"), clock, Box::new(|_| {})),
        Err(OpenError::Unreadable { .. })
    ));
}

/// Cancels a call, and blocks the writer thread until the runtime has dropped the call.
fn disconnect(call: &JoinHandle<Result<()>>) {
    call.abort();
    while !call.is_finished() {
        std::thread::yield_now();
    }
}

/// The caller disconnects after the writer has taken the call from the queue.
#[tokio::test(flavor = "multi_thread")]
async fn body_is_not_run_if_caller_disconnects_during_an_earlier_body_of_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let (handover, disconnected) = mpsc::channel();
    let disconnected = std::sync::Mutex::new(disconnected);
    let first = send(&store, move |tx| {
        disconnect(&disconnected.lock().unwrap().recv().unwrap());
        add_run(tx, "first")
    });
    let first = first.await;
    let (call, executions) = send_counted(&store, "disconnected").await;
    handover.send(call).unwrap();
    held.release().await;
    assert_eq!(first.await.unwrap(), Ok(()));
    assert!(exists(&store, "first").await && !exists(&store, "disconnected").await);
    assert_eq!(executions.load(Ordering::SeqCst), 0);
}

/// The change is committed, and no body of the group is run again.
#[tokio::test(flavor = "multi_thread")]
async fn change_is_committed_if_caller_disconnects_after_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = HeldWriter::hold(&store).await;
    let (disconnected, executions) = send_counted(&store, "disconnected").await;
    let last = send(&store, move |tx| {
        disconnect(&disconnected);
        add_run(tx, "last")
    });
    let last = last.await;
    held.release().await;
    assert_eq!(last.await.unwrap(), Ok(()));
    assert!(exists(&store, "disconnected").await && exists(&store, "last").await);
    assert_eq!(executions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn signals_of_failed_body_are_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let received = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = {
        let received = Arc::clone(&received);
        Box::new(move |signals: &[Signal]| received.lock().unwrap().extend_from_slice(signals))
    };
    let store = Store::open(&folder.path().join("db"), Arc::new(SystemClock::new()), listener).unwrap();
    let held = HeldWriter::hold(&store).await;
    let kept = send(&store, |tx| {
        tx.signal(Signal::RunEnded(1));
        add_run(tx, "kept")
    });
    let kept = kept.await;
    let failed = send(&store, |tx| {
        tx.signal(Signal::RunEnded(2));
        Err(create_failure())
    });
    let failed = failed.await;
    held.release().await;
    kept.await.unwrap().unwrap();
    failed.await.unwrap().unwrap_err();
    assert_eq!(*received.lock().unwrap(), [Signal::RunEnded(1)]);
}
