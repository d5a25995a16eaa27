use super::*;

fn room(run: Option<Key>, capabilities: &[&str]) -> ClaimsFor {
    let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
    ClaimsFor { run: run.map(|key| (key, "repo".to_owned())), capabilities }
}

/// Whether it was woken; never waits.
fn is_woken(ring: Pin<Box<OwnedNotified>>) -> bool {
    use futures_util::FutureExt;
    ring.now_or_never().is_some()
}

#[test]
fn a_change_wakes_as_many_as_it_freed_tasks() {
    let waiters = Waiters::default();
    let seats: Vec<_> = (0..5).map(|_| waiters.claims.register(room(Some(1), &[]))).collect();
    let rings: Vec<_> = seats.iter().map(Waiter::notified).collect();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 2 });
    assert_eq!(rings.into_iter().filter_map(|ring| is_woken(ring).then_some(())).count(), 2);
}

#[test]
fn those_of_other_capabilities_are_woken_too_and_those_of_other_runs_are_not() {
    let waiters = Waiters::default();
    let seats = [room(Some(1), &[]), room(Some(1), &["gpu"]), room(None, &[]), room(Some(2), &[])];
    let seats = seats.map(|what| waiters.claims.register(what));
    let rings: Vec<_> = seats.iter().map(Waiter::notified).collect();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    let woken: Vec<bool> = rings.into_iter().map(is_woken).collect();
    assert_eq!(woken, [true, true, true, false]);
}

#[test]
fn freed_paths_wake_those_of_the_repository_whatever_their_run() {
    let waiters = Waiters::default();
    let seats = [room(Some(1), &[]), room(Some(2), &[]), room(None, &[])].map(|what| waiters.claims.register(what));
    let listen = || seats.iter().map(Waiter::notified).collect::<Vec<_>>();
    let rings = listen();
    waiters.handle(&Signal::PathsFreed { repo_path: "other".into() });
    assert_eq!(rings.into_iter().map(is_woken).collect::<Vec<_>>(), [false, false, true]);
    let rings = listen();
    waiters.handle(&Signal::PathsFreed { repo_path: "repo".into() });
    assert!(rings.into_iter().all(is_woken));
}

/// The caller of a woken call may be gone before it looks.
#[test]
fn who_leaves_when_woken_wakes_another_in_its_place() {
    let waiters = Waiters::default();
    let (first, second) = (waiters.claims.register(room(None, &[])), waiters.claims.register(room(None, &[])));
    let (gone, waiting) = (first.notified(), second.notified());
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    drop(gone);
    drop(first);
    assert!(is_woken(waiting));
}

/// The same after it has heard the ring, and before it knows what it was good for.
#[test]
fn who_leaves_in_the_middle_of_a_look_wakes_another_in_its_place() {
    let waiters = Waiters::default();
    let (first, second) = (waiters.claims.register(room(None, &[])), waiters.claims.register(room(None, &[])));
    let (heard, waiting) = (first.notified(), second.notified());
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    assert!(is_woken(heard));
    drop(first.woken());
    assert!(is_woken(waiting));
    let waiting = second.notified();
    first.woken().found_nothing();
    first.woken().found(false);
    assert!(!is_woken(waiting));
    let waiting = second.notified();
    first.woken().found(true);
    assert!(is_woken(waiting));
}

#[test]
fn what_rings_between_listening_and_waiting_is_heard() {
    let waiters = Waiters::default();
    let waiter = waiters.approvals.register(7);
    let ring = waiter.notified();
    waiters.handle(&Signal::Decided(8));
    waiters.handle(&Signal::Decided(7));
    assert!(is_woken(ring));
}

#[test]
fn an_empty_room_is_forgotten() {
    let waiters = Waiters::default();
    drop(waiters.claims.register(room(None, &[])));
    assert!(waiters.claims.lock().is_empty());
}

#[test]
fn the_alarm_only_ever_comes_forward() {
    let due_timer = DueTimer::default();
    let at = Timestamp::from_micros;
    due_timer.bring_forward(at(5));
    due_timer.bring_forward(at(9));
    assert_eq!(due_timer.time(), Some(at(5)));
    due_timer.bring_forward(at(3));
    assert_eq!(due_timer.time(), Some(at(3)));
    due_timer.reset();
    assert_eq!(due_timer.time(), None);
}
