//! The tests in this module check the tail and the notifications of the tail's waiters.

use super::*;

#[test]
fn tail_returns_the_matching_events_after_a_position() {
    let tail = new_tail();
    extend(&tail, vec![event(1, "a", "x"), event(2, "b", "x"), event(4, "a", "y")]);
    assert_eq!(events_after(&tail, 0, None), Some((vec![1, 2, 4], 4)));
    assert_eq!(events_after(&tail, 1, Some("a")), Some((vec![4], 4)));
    assert_eq!(events_after(&tail, 4, Some("a")), Some((vec![], 4)));
    assert_eq!(events_after(&tail, 9, None), Some((vec![], 9)), "no event follows a cursor ahead of the tail");
    let filter = EventFilter { kinds: vec!["x".to_owned()], ..EventFilter::default() };
    assert_eq!(
        tail.events_after(0, 0, None, &filter, MAX_BYTES).map(|part| (part.events, part.up_to)),
        Some((vec![1, 2], 4))
    );
}

#[test]
fn parts_of_the_tail_are_bounded_and_skip_no_event() {
    let tail = new_tail();
    extend(&tail, (1..=5_000).map(|position| event(position, "a", "x")).collect());
    let mut seen = Vec::new();
    let mut position = 0;
    while position < 5_000 {
        let (events, up_to) = events_after(&tail, position, None).unwrap();
        assert!(events.len() <= 256 && up_to > position);
        seen.extend(events);
        position = up_to;
    }
    assert_eq!(seen, (1..=5_000).collect::<Vec<_>>());
    let (nothing, checked_up_to) = events_after(&tail, 0, Some("b")).unwrap();
    assert_eq!((nothing.len(), checked_up_to), (0, 2_048));
}

#[test]
fn cursor_before_the_tail_needs_the_store() {
    let tail = new_tail();
    extend(&tail, (1..=20_000).map(|position| event(position, "a", "x")).collect());
    let begin = 20_000 - 16_384;
    assert_eq!(events_after(&tail, begin - 1, None), None);
    assert_eq!(events_after(&tail, begin, None).unwrap().0[0], begin + 1);
    let tail = new_tail_of_size(Limit { rows: 100, bytes: 1_000 });
    extend(&tail, vec![event(1, "a", "x"), event(2, "a", "x")]);
    assert_eq!(events_after(&tail, 0, None), None, "the tail must contain only one of the two entries");
    assert_eq!(events_after(&tail, 1, None), Some((vec![2], 2)));
}

#[test]
fn tail_removes_the_events_of_a_deleted_run() {
    let tail = new_tail();
    extend(&tail, vec![event(1, "a", "x"), event(2, "b", "x"), event(3, "a", RUN_DELETED)]);
    assert_eq!(events_after(&tail, 0, None), Some((vec![2, 3], 3)));
    assert_eq!(events_after(&tail, 0, Some("a")), None, "watchers of the deleted run must read the store");
    assert_eq!(events_after(&tail, 0, Some("b")), Some((vec![2], 3)));
    extend(&tail, (4..=20_000).map(|position| event(position, "b", "x")).collect());
    assert_eq!(events_after(&tail, 20_000, Some("a")), Some((vec![], 20_000)), "the tail must drop run_deleted");
}

/// A watcher may have read the deletion of a run from the store while the tail still contains the events of the run.
#[test]
fn tail_that_ends_before_the_last_read_returns_no_events() {
    let tail = new_tail();
    extend(&tail, vec![event(1, "a", "x"), event(2, "a", "x")]);
    assert!(tail.events_after(1, 3, None, &EventFilter::default(), MAX_BYTES).is_none());
    assert!(
        tail.events_after(2, 3, None, &EventFilter::default(), MAX_BYTES).unwrap().events.is_empty(),
        "there is nothing to send, so the watcher waits"
    );
    extend(&tail, vec![event(3, "a", RUN_DELETED)]);
    assert_eq!(tail.events_after(1, 3, None, &EventFilter::default(), MAX_BYTES).unwrap().events, [3]);
}

#[tokio::test]
async fn log_growth_wakes_the_waiters_of_the_run_and_of_all_runs() {
    let tail = new_tail();
    let mut of_all = tail.register(None);
    let mut of_a = tail.register(Some("a".to_owned()));
    let mut of_b = tail.register(Some("b".to_owned()));
    extend(&tail, vec![event(1, "a", "x")]);
    of_all.wait_past(0).await;
    of_a.wait_past(0).await;
    assert!(of_b.wait_past(0).now_or_never().is_none());
    drop((of_all, of_a, of_b));
    assert!(!tail.has_waiters());
}

/// If two waiters of a run end at the same time, one of the waiters must remove the run's entry from the
/// `GrowthNotifier`.
#[test]
fn run_entry_is_removed_when_the_last_two_waiters_end_together() {
    let tail = new_tail();
    for _ in 0..2_000 {
        let waiters = [(); 2].map(|()| tail.register(Some("a".to_owned())));
        std::thread::scope(|scope| {
            waiters.map(|waiter| scope.spawn(|| drop(waiter))).map(|thread| thread.join().unwrap())
        });
        assert!(!tail.has_waiters());
    }
}
