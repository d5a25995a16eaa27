//! The tests in this module check watchers, including watchers that fall behind the tail.

mod tail;

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::clock::SystemClock;
use crate::domain::event::{Event, EventDraft, RUN_DELETED, RUN_UPDATED, SYSTEM};
use crate::domain::json::Json;
use crate::domain::run::{Run, RunDraft, RunStatus};
use crate::domain::time::Timestamp;
use crate::store::events::{self, ScanResult};
use crate::store::{Tx, compaction, runs};

fn event(position: i64, run_id: &str, kind: &str) -> Event {
    let source = if kind == RUN_DELETED { SYSTEM } else { "test" };
    Event {
        position,
        seq: position,
        run_id: run_id.to_owned(),
        task_id: None,
        source: source.to_owned(),
        kind: kind.to_owned(),
        message: String::new(),
        payload: Json::null(),
        create_time: Timestamp::from_micros(0),
    }
}

impl WatcherEvent for i64 {
    fn from_event(event: Event) -> Self {
        event.position
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

fn new_tail() -> Tail<i64> {
    new_tail_of_size(TAIL_SIZE)
}

fn new_tail_of_size(size: Limit) -> Tail<i64> {
    Tail::new(0, size)
}

fn extend(tail: &Tail<i64>, events: Vec<Event>) {
    let newest = events.last().map_or(0, |event| event.position);
    tail.extend(ScanResult { events, end: ScanEnd::Exhausted }, newest);
}

/// Maximum size of the events that a test takes from the tail at once.
const MAX_BYTES: usize = 512 * 1024;

fn events_after(tail: &Tail<i64>, position: i64, run_id: Option<&str>) -> Option<(Vec<i64>, i64)> {
    tail.events_after(position, 0, run_id, &EventFilter::default(), MAX_BYTES).map(|part| (part.events, part.up_to))
}

fn event_draft() -> EventDraft {
    EventDraft { task_key: None, source: "test".into(), kind: "x".into(), message: "".into(), payload: Json::null() }
}

struct Fixture {
    store: Store,
    tail: Arc<Tail<i64>>,
    drain: watch::Sender<bool>,
    _folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_tail(new_tail()).await
    }

    /// Returns a store with one run, and a tail that stays empty until the test calls `follow_log`.
    async fn with_tail(tail: Tail<i64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
        let run_draft = || RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
        let insert = move |tx: &mut dyn Tx| {
            let run = Run::new(1_000, "run".to_owned(), run_draft(), tx.now());
            runs::insert(tx, &run)
        };
        store.transact(insert).await.unwrap();
        Self { store, tail: Arc::new(tail), drain: watch::Sender::new(false), _folder: folder }
    }

    async fn append(&self, count: usize) -> i64 {
        let drafts = vec![event_draft(); count];
        self.store.transact(move |tx| events::append_all(tx, 1_000, &drafts)).await.unwrap().last_position
    }

    /// Ends the run, appends `late` more events after the event that ends the run, and returns the last position.
    async fn end_run(&self, late: usize) -> i64 {
        let body = move |tx: &mut dyn Tx| {
            let run = runs::get(tx, "run")?;
            runs::save(tx, &Run { status: RunStatus::Completed, ..run })?;
            let ended = EventDraft { source: SYSTEM.to_owned(), kind: RUN_UPDATED.to_owned(), ..event_draft() };
            events::append_all(tx, 1_000, &[vec![ended], vec![event_draft(); late]].concat())
        };
        self.store.transact(body).await.unwrap().last_position
    }

    /// Starts and returns a Tokio task that keeps the tail up to date until the test aborts the task.
    fn follow_log(&self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Arc::clone(&self.tail).follow(self.store.clone(), self.drain.subscribe()))
    }

    async fn watch(&self, start: StartPoint) -> Watcher<i64> {
        let request = WatchRequest {
            run_id: Some("run".to_owned()),
            filter: EventFilter::default(),
            start,
            bookmark_interval: Duration::from_secs(3_600),
        };
        Watcher::start(&self.store, &self.tail, self.drain.subscribe(), request).await.unwrap()
    }
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    let checking = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), checking).await.unwrap();
}

/// Checks that the next messages of the watcher are the events at `positions`.
async fn expect_events(watcher: &mut Watcher<i64>, positions: std::ops::RangeInclusive<i64>) {
    for position in positions {
        assert_eq!(next_message(watcher).await, Message::Event(position));
    }
}

#[tokio::test]
async fn watcher_that_falls_behind_the_tail_returns_to_the_store() {
    let fixture = Fixture::new().await;
    let mut watcher = fixture.watch(StartPoint::Beginning).await;
    let last = fixture.append(1_200).await;
    expect_events(&mut watcher, 1..=last).await;
    assert_eq!(watcher.next().await.unwrap().unwrap(), Message::CaughtUp(last));
    let following = fixture.follow_log();
    let next = fixture.append(3).await;
    expect_events(&mut watcher, last + 1..=next).await;
    // The watcher reads nothing while the test appends 20,000 events. The tail holds only 16,384 events, so the watcher
    // falls behind the tail.
    let mut far = 0;
    for _ in 0..20 {
        far = fixture.append(1_000).await;
    }
    expect_events(&mut watcher, next + 1..=far).await;
    let live = fixture.append(1).await;
    expect_events(&mut watcher, live..=live).await;
    following.abort();
}

/// If no watcher waits, the tail reads no events. A watcher that starts later still receives every event.
#[tokio::test]
async fn tail_is_filled_only_while_a_watcher_waits() {
    let fixture = Fixture::new().await;
    let following = fixture.follow_log();
    let last = fixture.append(10).await;
    // The tail has skipped to the end of the log, so the tail does not contain the ten earlier events.
    wait_until(|| {
        events_after(&fixture.tail, 0, None).is_none()
            && events_after(&fixture.tail, last, None) == Some((vec![], last))
    })
    .await;
    let mut watcher = fixture.watch(StartPoint::After(last)).await;
    assert_eq!(watcher.next().await.unwrap().unwrap(), Message::CaughtUp(last));
    let next = fixture.append(2).await;
    expect_events(&mut watcher, last + 1..=next).await;
    following.abort();
}

async fn next_message(watcher: &mut Watcher<i64>) -> Message<i64> {
    tokio::time::timeout(Duration::from_secs(20), watcher.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn accepted_watcher_waits_for_a_reader_instead_of_being_refused() {
    let fixture = Fixture::new().await;
    let (mut watcher, mut line, (go_on, gate)) =
        (fixture.watch(StartPoint::Beginning).await, Vec::new(), mpsc::channel::<()>());
    let gate = Arc::new(Mutex::new(gate));
    let read = || {
        let gate = Arc::clone(&gate);
        fixture.store.read(move |_| gate.lock().map(|gate| gate.recv().unwrap_or(())).map_err(Error::internal)).boxed()
    };
    let mut last = read();
    while (&mut last).now_or_never().is_none() {
        line.push(std::mem::replace(&mut last, read()));
    }
    assert!(watcher.next().now_or_never().is_none());
    drop((line, go_on));
    assert_eq!(next_message(&mut watcher).await, Message::CaughtUp(0));
}

/// The event that ends the run is in the last page that the watcher reads from the store. After the watcher has
/// returned to the tail, the watcher must still report the end of the run.
#[tokio::test]
async fn run_end_from_the_store_is_reported_after_the_watcher_returns_to_the_tail() {
    let fixture = Fixture::with_tail(new_tail_of_size(Limit { rows: 300, bytes: usize::MAX })).await;
    let following = fixture.follow_log();
    let mut watcher = fixture.watch(StartPoint::Beginning).await;
    assert_eq!(next_message(&mut watcher).await, Message::CaughtUp(0));
    let before = fixture.append(400).await;
    let last = fixture.end_run(250).await;
    wait_until(|| fixture.tail.end() == last).await;
    assert!(
        before < 500 && last > 500,
        "position 500 must be between the end of the run (after {before}) and the last event ({last}): change the \
         numbers of appended events"
    );
    expect_events(&mut watcher, 1..=last).await;
    assert_eq!(next_message(&mut watcher).await, Message::End(EndReason::RunEnded, last));
    following.abort();
}

/// The tail holds at most 50 events, so every watcher falls behind the tail repeatedly.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_behind_the_tail_receive_every_event_and_the_end_of_the_run() {
    let fixture = Fixture::with_tail(new_tail_of_size(Limit { rows: 50, bytes: usize::MAX })).await;
    let following = fixture.follow_log();
    let mut watching = tokio::task::JoinSet::new();
    for pace in 0..20 {
        let mut watcher = fixture.watch(StartPoint::Beginning).await;
        watching.spawn(async move {
            let mut last = 0;
            loop {
                match next_message(&mut watcher).await {
                    Message::Event(position) => {
                        assert_eq!(position, last + 1);
                        last = position;
                    }
                    Message::End(reason, _) => {
                        assert_eq!(reason, EndReason::RunEnded);
                        return last;
                    }
                    Message::CaughtUp(_) | Message::Bookmark(_) => {}
                }
                if pace > 0 && last % (10 * pace) == 0 {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
        });
    }
    for burst in 0..600 {
        fixture.append(1 + burst % 30).await;
    }
    let last = fixture.end_run(20).await;
    assert!(watching.join_all().await.into_iter().all(|seen| seen == last));
    following.abort();
}

/// The End message contains the position of the run_deleted event.
#[tokio::test]
async fn live_watcher_receives_the_deletion_of_its_run() {
    let fixture = Fixture::new().await;
    let following = fixture.follow_log();
    let mut watcher = fixture.watch(StartPoint::Now).await;
    assert_eq!(next_message(&mut watcher).await, Message::CaughtUp(0));
    let end_and_delete = |tx: &mut dyn Tx| {
        let run = runs::get(tx, "run")?;
        runs::save(tx, &Run { status: RunStatus::Completed, ..run })?;
        crate::actions::deletion::delete(tx, "run", None)
    };
    let waiting = tokio::spawn(async move { (next_message(&mut watcher).await, watcher.next().await.is_none()) });
    fixture.store.transact(end_and_delete).await.unwrap();
    assert_eq!(waiting.await.unwrap(), (Message::End(EndReason::RunDeleted, 1), true));
    following.abort();
}

/// More rows than the server deletes before the response, so the deletion continues after `run_delete_requested`.
const ROWS_OF_LARGE_RUN: usize = 10_100;

#[tokio::test]
async fn live_watcher_receives_the_start_of_a_deletion_in_parts() {
    let fixture = Fixture::new().await;
    let following = fixture.follow_log();
    let last = fixture.append(ROWS_OF_LARGE_RUN).await;
    let mut watcher = fixture.watch(StartPoint::After(last)).await;
    assert_eq!(next_message(&mut watcher).await, Message::CaughtUp(last));
    let end_and_delete = |tx: &mut dyn Tx| {
        let run = runs::get(tx, "run")?;
        runs::save(tx, &Run { status: RunStatus::Completed, ..run })?;
        crate::actions::deletion::delete(tx, "run", None)
    };
    fixture.store.transact(end_and_delete).await.unwrap();
    assert_eq!(next_message(&mut watcher).await, Message::End(EndReason::RunDeleted, last + 1));
    let hidden = fixture.store.read(|tx| Ok(runs::find(tx, "run")?.is_none())).await.unwrap();
    assert!(hidden && watcher.next().await.is_none());
    following.abort();
}

/// A bookmark is a cursor: if retention removes events after the bookmark, the watcher must fail.
#[tokio::test]
async fn retention_after_a_bookmark_is_an_error_for_a_stream_from_the_beginning() {
    let fixture = Fixture::new().await;
    for _ in 0..6 {
        fixture.append(1_000).await;
    }
    let filter = EventFilter { kinds: vec!["never".to_owned()], ..EventFilter::default() };
    let mut watcher = Watcher { bookmark_interval: Duration::ZERO, ..fixture.watch(StartPoint::Beginning).await };
    watcher.scan.filter = filter;
    let Message::Bookmark(position) = next_message(&mut watcher).await else {
        panic!("the first message of the watcher is not a bookmark: check the watcher's bookmark_interval")
    };
    assert!(position < 6_000);
    while fixture.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap()
        > 0
    {}
    assert!(matches!(watcher.next().await, Some(Err(Error::PositionCompacted { .. }))));
}

/// Retention removes events that the tail has not read. The watcher must then read the store, which reports the gap.
#[tokio::test]
async fn tail_does_not_skip_removed_events() {
    let fixture = Fixture::new().await;
    let mut watcher = fixture.watch(StartPoint::Now).await;
    assert_eq!(next_message(&mut watcher).await, Message::CaughtUp(0));
    fixture.append(1).await;
    // The watcher reads the first event from the store and all later events from the tail.
    expect_events(&mut watcher, 1..=1).await;
    fixture.append(10).await;
    while fixture.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap()
        > 0
    {}
    let following = fixture.follow_log();
    fixture.append(1).await;
    assert!(matches!(watcher.next().await, Some(Err(Error::PositionCompacted { .. }))));
    following.abort();
}

#[tokio::test]
async fn stream_from_the_beginning_accepts_earlier_retention() {
    let fixture = Fixture::new().await;
    fixture.append(10).await;
    while fixture.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap()
        > 0
    {}
    let mut watcher = fixture.watch(StartPoint::Beginning).await;
    fixture.drain.send_replace(true);
    assert_eq!(next_message(&mut watcher).await, Message::End(EndReason::Draining, 10));
}
