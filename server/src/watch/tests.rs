//! The tail and its growth, and a watcher that falls off it.

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

#[test]
fn a_tail_shows_what_is_after_a_position_in_a_scope() {
    let tail = tail();
    extend(&tail, vec![event(1, "a", "x"), event(2, "b", "x"), event(4, "a", "y")]);
    assert_eq!(after(&tail, 0, None), Some((vec![1, 2, 4], 4)));
    assert_eq!(after(&tail, 1, Some("a")), Some((vec![4], 4)));
    assert_eq!(after(&tail, 4, Some("a")), Some((vec![], 4)));
    assert_eq!(after(&tail, 9, None), Some((vec![], 9)), "who is ahead of it waits");
    let filter = EventFilter { kinds: vec!["x".to_owned()], ..EventFilter::default() };
    assert_eq!(tail.after(0, 0, None, &filter).map(|part| (part.events, part.up_to)), Some((vec![1, 2], 4)));
}

#[test]
fn what_is_taken_at_once_is_bounded_and_nothing_is_skipped() {
    let tail = tail();
    extend(&tail, (1..=5_000).map(|position| event(position, "a", "x")).collect());
    let (mut seen, mut position) = (Vec::new(), 0);
    while position < 5_000 {
        let (events, up_to) = after(&tail, position, None).unwrap();
        assert!(events.len() <= 256 && up_to > position);
        seen.extend(events);
        position = up_to;
    }
    assert_eq!(seen, (1..=5_000).collect::<Vec<_>>());
    let (nothing, looked_at) = after(&tail, 0, Some("b")).unwrap();
    assert_eq!((nothing.len(), looked_at), (0, 2_048));
}

#[test]
fn who_is_before_its_begin_is_sent_to_the_store() {
    let tail = tail();
    extend(&tail, (1..=20_000).map(|position| event(position, "a", "x")).collect());
    let begin = 20_000 - 16_384;
    assert_eq!(after(&tail, begin - 1, None), None);
    assert_eq!(after(&tail, begin, None).unwrap().0[0], begin + 1);
    let tail = tail_of_size(Limit { rows: 100, bytes: 1_000 });
    extend(&tail, vec![event(1, "a", "x"), event(2, "a", "x")]);
    assert_eq!(after(&tail, 0, None), None, "two do not fit");
    assert_eq!(after(&tail, 1, None), Some((vec![2], 2)));
}

#[test]
fn what_is_deleted_is_shown_to_nobody_any_more() {
    let tail = tail();
    extend(&tail, vec![event(1, "a", "x"), event(2, "b", "x"), event(3, "a", RUN_DELETED)]);
    assert_eq!(after(&tail, 0, None), Some((vec![2, 3], 3)));
    assert_eq!(after(&tail, 0, Some("a")), None, "who watches it is told by the store");
    assert_eq!(after(&tail, 0, Some("b")), Some((vec![2], 3)));
    extend(&tail, (4..=20_000).map(|position| event(position, "b", "x")).collect());
    assert_eq!(after(&tail, 20_000, Some("a")), Some((vec![], 20_000)), "that is long ago");
}

/// The store may have shown a watcher that a run is gone of which the tail still has something.
#[test]
fn a_tail_that_is_older_than_what_was_seen_shows_nothing() {
    let tail = tail();
    extend(&tail, vec![event(1, "a", "x"), event(2, "a", "x")]);
    assert!(tail.after(1, 3, None, &EventFilter::default()).is_none());
    assert!(tail.after(2, 3, None, &EventFilter::default()).unwrap().events.is_empty(), "nothing to show: it waits");
    extend(&tail, vec![event(3, "a", RUN_DELETED)]);
    assert_eq!(tail.after(1, 3, None, &EventFilter::default()).unwrap().events, [3]);
}

#[tokio::test]
async fn a_bell_rings_for_those_it_concerns() {
    let tail = tail();
    let (mut of_all, mut of_a, mut of_b) =
        (tail.register(None), tail.register(Some("a".to_owned())), tail.register(Some("b".to_owned())));
    extend(&tail, vec![event(1, "a", "x")]);
    of_all.wait_past(0).await;
    of_a.wait_past(0).await;
    assert!(of_b.wait_past(0).now_or_never().is_none());
    drop((of_all, of_a, of_b));
    assert!(!tail.has_waiters());
}

/// Of two that go at the same time one is the last.
#[test]
fn no_bell_is_left_when_all_go_at_once() {
    let tail = tail();
    for _ in 0..2_000 {
        let waiters = [(); 2].map(|()| tail.register(Some("a".to_owned())));
        std::thread::scope(|scope| waiters.map(|waiter| scope.spawn(|| drop(waiter))).map(|gone| gone.join().unwrap()));
        assert!(!tail.has_waiters());
    }
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

    /// A store with one run, and a tail that nobody feeds unless a test does.
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

    /// Ends the run, with late records behind the event that says so.
    async fn end(&self, late: usize) -> i64 {
        let body = move |tx: &mut dyn Tx| {
            let run = runs::get(tx, "run")?;
            runs::save(tx, &Run { status: RunStatus::Completed, ..run })?;
            let ended = EventDraft { source: SYSTEM.to_owned(), kind: RUN_UPDATED.to_owned(), ..draft() };
            events::append_all(tx, 1_000, &[vec![ended], vec![draft(); late]].concat())
        };
        self.store.transact(body).await.unwrap().last_position
    }

    /// Follows the log until it is aborted.
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

async fn until(mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap();
}

/// The next events, which must be these, in whatever way they come.
async fn expect(watch: &mut Watch<i64>, positions: std::ops::RangeInclusive<i64>) {
    for position in positions {
        assert_eq!(next(watch).await, Message::Event(position));
    }
}

#[tokio::test]
async fn a_watcher_goes_from_the_store_to_the_tail_and_back_when_it_falls_off() {
    let world = World::new().await;
    let mut watch = world.watch(Start::Beginning).await;
    let last = world.append(1_200).await;
    expect(&mut watch, 1..=last).await;
    assert_eq!(watch.next().await.unwrap().unwrap(), Message::CaughtUp(last));
    let following = world.follow();
    let next = world.append(3).await;
    expect(&mut watch, last + 1..=next).await;
    // Far more than the tail holds, while the watcher is not looking.
    let mut far = 0;
    for _ in 0..20 {
        far = world.append(1_000).await;
    }
    expect(&mut watch, next + 1..=far).await;
    let live = world.append(1).await;
    expect(&mut watch, live..=live).await;
    following.abort();
}

/// Nobody reads for a tail that nobody listens to; who comes then misses nothing.
#[tokio::test]
async fn a_tail_is_filled_only_while_somebody_listens() {
    let world = World::new().await;
    let following = world.follow();
    let last = world.append(10).await;
    // It has skipped to the end, so that what is before is not there.
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
async fn who_has_begun_waits_where_others_are_refused() {
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

/// Where the store is left for the tail, the run's end must not get lost: here it stands in the last page that is read.
#[tokio::test]
async fn who_is_back_on_the_tail_hears_of_an_end_that_it_read_of_in_the_store() {
    let world = World::with(tail_of_size(Limit { rows: 300, bytes: usize::MAX })).await;
    let following = world.follow();
    let mut watch = world.watch(Start::Beginning).await;
    assert_eq!(next(&mut watch).await, Message::CaughtUp(0));
    let before = world.append(400).await;
    let last = world.end(250).await;
    until(|| world.tail.end() == last).await;
    assert!(before < 500 && last > 500, "the page ends behind the event of the end");
    expect(&mut watch, 1..=last).await;
    assert_eq!(next(&mut watch).await, Message::End(EndReason::RunEnded, last));
    following.abort();
}

/// A tail so small that everybody falls off all the time.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_fall_off_a_small_tail_miss_nothing_and_hear_of_the_end() {
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

/// Nobody has deleted it before: it is told live, and the end is where the deletion was.
#[tokio::test]
async fn a_live_watcher_of_a_run_is_told_when_it_is_deleted() {
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

/// A bookmark is a cursor: what is removed after it is no beginning any more.
#[tokio::test]
async fn after_a_bookmark_a_stream_from_the_beginning_can_lose_something() {
    let world = World::new().await;
    for _ in 0..6 {
        world.append(1_000).await;
    }
    let filter = EventFilter { kinds: vec!["never".to_owned()], ..EventFilter::default() };
    let mut watch = Watch { bookmark_interval: Duration::ZERO, ..world.watch(Start::Beginning).await };
    watch.scan.filter = filter;
    let Message::Bookmark(position) = next(&mut watch).await else { panic!("a bookmark while it catches up") };
    assert!(position < 6_000);
    while world.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap() > 0
    {
    }
    assert!(matches!(watch.next().await, Some(Err(Error::PositionCompacted { .. }))));
}

/// The tail is behind by more than is kept: it says nothing, and who watches asks the store, which does.
#[tokio::test]
async fn a_tail_does_not_pass_over_what_was_removed() {
    let world = World::new().await;
    let mut watch = world.watch(Start::Now).await;
    assert_eq!(next(&mut watch).await, Message::CaughtUp(0));
    world.append(1).await;
    // By the store; from then on it looks into the tail.
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
async fn from_the_beginning_means_a_cursor_that_has_lost_nothing() {
    let world = World::new().await;
    world.append(10).await;
    while world.store.transact(|tx| compaction::remove_before(tx, Timestamp::from_micros(i64::MAX))).await.unwrap() > 0
    {
    }
    let mut watch = world.watch(Start::Beginning).await;
    world.drain.send_replace(true);
    assert_eq!(next(&mut watch).await, Message::End(EndReason::Draining, 10));
}
