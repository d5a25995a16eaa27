//! Tests of watchers, also of those that fall behind the tail.

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
use crate::store::events::{self, Found};
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

impl Shown for i64 {
    fn of(event: Event) -> Self {
        event.position
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

fn tail() -> Tail<i64> {
    tail_of_size(TAIL_SIZE)
}

fn tail_of_size(size: Limit) -> Tail<i64> {
    Tail::new(0, size)
}

fn extend(tail: &Tail<i64>, events: Vec<Event>) {
    let newest = events.last().map_or(0, |event| event.position);
    tail.extend(Found { events, end: ScanEnd::Exhausted }, newest);
}

fn after(tail: &Tail<i64>, position: i64, run_id: Option<&str>) -> Option<(Vec<i64>, i64)> {
    tail.after(position, 0, run_id, &EventFilter::default()).map(|part| (part.events, part.up_to))
}

fn draft() -> EventDraft {
    EventDraft { task_key: None, source: "test".into(), kind: "x".into(), message: "".into(), payload: Json::null() }
}

struct World {
    store: Store,
    tail: Arc<Tail<i64>>,
    drain: watch::Sender<bool>,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(tail()).await
    }

    /// Returns a store with one run, and a tail that is empty until a test follows the log.
    async fn with(tail: Tail<i64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), Arc::new(SystemClock), Box::new(|_| {})).unwrap();
        let run_draft = || RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
        let insert = move |tx: &mut dyn Tx| {
            let run = Run::new(1_000, "run".to_owned(), run_draft(), tx.now());
            runs::insert(tx, &run)
        };
        store.transact(insert).await.unwrap();
        Self { store, tail: Arc::new(tail), drain: watch::Sender::new(false), _folder: folder }
    }

    async fn append(&self, count: usize) -> i64 {
        let drafts = vec![draft(); count];
        self.store.transact(move |tx| events::append_all(tx, 1_000, &drafts)).await.unwrap().last_position
    }

    /// Ends the run, and appends `late` more events after the event of its end.
    async fn end(&self, late: usize) -> i64 {
        let body = move |tx: &mut dyn Tx| {
            let run = runs::get(tx, "run")?;
            runs::save(tx, &Run { status: RunStatus::Completed, ..run })?;
            let ended = EventDraft { source: SYSTEM.to_owned(), kind: RUN_UPDATED.to_owned(), ..draft() };
            events::append_all(tx, 1_000, &[vec![ended], vec![draft(); late]].concat())
        };
        self.store.transact(body).await.unwrap().last_position
    }

    /// Lets the tail follow the log until the task is aborted.
    fn follow(&self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Arc::clone(&self.tail).follow(self.store.clone(), self.drain.subscribe()))
    }

    async fn watch(&self, start: Start) -> Watch<i64> {
        let request = WatchRequest {
            run_id: Some("run".to_owned()),
            filter: EventFilter::default(),
            start,
            bookmark_interval: Duration::from_secs(3_600),
        };
        Watch::begin(&self.store, &self.tail, self.drain.subscribe(), request).await.unwrap()
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let checking = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), checking).await.unwrap();
}

/// Checks that the next messages are the events at these positions.
async fn expect(watch: &mut Watch<i64>, positions: std::ops::RangeInclusive<i64>) {
    for position in positions {
        assert_eq!(next(watch).await, Message::Event(position));
    }
}

#[tokio::test]
async fn watcher_that_falls_behind_the_tail_returns_to_the_store() {
    let world = World::new().await;
    let mut watch = world.watch(Start::Beginning).await;
    let last = world.append(1_200).await;
    expect(&mut watch, 1..=last).await;
    assert_eq!(watch.next().await.unwrap().unwrap(), Message::CaughtUp(last));
    let following = world.follow();
    let next = world.append(3).await;
    expect(&mut watch, last + 1..=next).await;
    // The watcher does not read while far more events are appended than the tail holds.
    let mut far = 0;
    for _ in 0..20 {
        far = world.append(1_000).await;
    }
    expect(&mut watch, next + 1..=far).await;
    let live = world.append(1).await;
    expect(&mut watch, live..=live).await;
    following.abort();
}

/// Without waiters the tail reads nothing; a watcher that begins later misses nothing.
#[tokio::test]
async fn tail_is_filled_only_while_somebody_waits() {
    let world = World::new().await;
    let following = world.follow();
    let last = world.append(10).await;
    // The tail skipped to the end, so it does not have the events before.
    until(|| after(&world.tail, 0, None).is_none() && after(&world.tail, last, None) == Some((vec![], last))).await;
    let mut watch = world.watch(Start::After(last)).await;
    assert_eq!(watch.next().await.unwrap().unwrap(), Message::CaughtUp(last));
    let next = world.append(2).await;
    expect(&mut watch, last + 1..=next).await;
    following.abort();
}

async fn next(watch: &mut Watch<i64>) -> Message<i64> {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn accepted_watcher_waits_for_a_reader_instead_of_being_refused() {
    let world = World::new().await;
    let (mut watch, mut line, (go_on, gate)) = (world.watch(Start::Beginning).await, Vec::new(), mpsc::channel::<()>());
    let gate = Arc::new(Mutex::new(gate));
    let read = || {
        let gate = Arc::clone(&gate);
        world.store.read(move |_| gate.lock().map(|gate| gate.recv().unwrap_or(())).map_err(Error::internal)).boxed()
    };
    let mut last = read();
    while (&mut last).now_or_never().is_none() {
        line.push(std::mem::replace(&mut last, read()));
    }
    assert!(watch.next().now_or_never().is_none());
    drop((line, go_on));
    assert_eq!(next(&mut watch).await, Message::CaughtUp(0));
}

/// The run's end must not get lost between the store and the tail: here it is in the last page that the watcher reads.
#[tokio::test]
async fn watcher_that_returns_to_the_tail_reports_the_end_it_read_in_the_store() {
    let world = World::with(tail_of_size(Limit { rows: 300, bytes: usize::MAX })).await;
    let following = world.follow();
    let mut watch = world.watch(Start::Beginning).await;
    assert_eq!(next(&mut watch).await, Message::CaughtUp(0));
    let before = world.append(400).await;
    let last = world.end(250).await;
    until(|| world.tail.end() == last).await;
    assert!(before < 500 && last > 500, "the page ends after the event of the end");
    expect(&mut watch, 1..=last).await;
    assert_eq!(next(&mut watch).await, Message::End(EndReason::RunEnded, last));
    following.abort();
}

/// The tail is so small that every watcher falls behind it again and again.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_behind_a_small_tail_miss_nothing_and_receive_the_end() {
    let world = World::with(tail_of_size(Limit { rows: 50, bytes: usize::MAX })).await;
    let following = world.follow();
    let mut watching = tokio::task::JoinSet::new();
    for pace in 0..20 {
        let mut watch = world.watch(Start::Beginning).await;
        watching.spawn(async move {
            let mut last = 0;
            loop {
                match next(&mut watch).await {
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
        world.append(1 + burst % 30).await;
    }
    let last = world.end(20).await;
    assert!(watching.join_all().await.into_iter().all(|seen| seen == last));
    following.abort();
}

/// The position of the end is that of the deletion.
#[tokio::test]
async fn live_watcher_receives_the_deletion_of_its_run() {
    let world = World::new().await;
    let following = world.follow();
    let mut watch = world.watch(Start::Now).await;
    assert_eq!(next(&mut watch).await, Message::CaughtUp(0));
    let end_and_delete = |tx: &mut dyn Tx| {
        let run = runs::get(tx, "run")?;
        runs::save(tx, &Run { status: RunStatus::Completed, ..run })?;
        crate::actions::run::delete(tx, "run", None)
    };
    let waiting = tokio::spawn(async move { (next(&mut watch).await, watch.next().await.is_none()) });
    world.store.transact(end_and_delete).await.unwrap();
    assert_eq!(waiting.await.unwrap(), (Message::End(EndReason::RunDeleted, 1), true));
    following.abort();
}

/// A bookmark is a cursor, so events that retention removes after it are an error.
#[tokio::test]
async fn retention_after_a_bookmark_is_an_error_for_a_stream_from_the_beginning() {
    let world = World::new().await;
    for _ in 0..6 {
        world.append(1_000).await;
    }
    let filter = EventFilter { kinds: vec!["never".to_owned()], ..EventFilter::default() };
    let mut watch = Watch { bookmark_interval: Duration::ZERO, ..world.watch(Start::Beginning).await };
    watch.scan.filter = filter;
    let Message::Bookmark(position) = next(&mut watch).await else { panic!("the first message is not a bookmark") };
    assert!(position < 6_000);
    while world.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap() > 0
    {
    }
    assert!(matches!(watch.next().await, Some(Err(Error::PositionCompacted { .. }))));
}

/// The tail is further behind than retention has kept, so the watcher reads the store, which reports the gap.
#[tokio::test]
async fn tail_does_not_skip_removed_events() {
    let world = World::new().await;
    let mut watch = world.watch(Start::Now).await;
    assert_eq!(next(&mut watch).await, Message::CaughtUp(0));
    world.append(1).await;
    // The watcher reads this event in the store; from then on it reads the tail.
    expect(&mut watch, 1..=1).await;
    world.append(10).await;
    while world.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap() > 0
    {
    }
    let following = world.follow();
    world.append(1).await;
    assert!(matches!(watch.next().await, Some(Err(Error::PositionCompacted { .. }))));
    following.abort();
}

#[tokio::test]
async fn stream_from_the_beginning_accepts_earlier_retention() {
    let world = World::new().await;
    world.append(10).await;
    while world.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap() > 0
    {
    }
    let mut watch = world.watch(Start::Beginning).await;
    world.drain.send_replace(true);
    assert_eq!(next(&mut watch).await, Message::End(EndReason::Draining, 10));
}
