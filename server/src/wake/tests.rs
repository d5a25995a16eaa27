use super::*;

fn claims_for(run: Option<Key>, capabilities: &[&str]) -> ClaimsFor {
    let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
    ClaimsFor { run: run.map(|key| (key, "repo".to_owned())), capabilities }
}

/// Returns whether the notification has arrived, without waiting.
fn is_woken(notified: Pin<Box<OwnedNotified>>) -> bool {
    use futures_util::FutureExt;
    notified.now_or_never().is_some()
}

#[test]
fn change_wakes_one_claim_for_each_ready_task() {
    let waiters = Waiters::default();
    let registered: Vec<_> = (0..5).map(|_| waiters.claims.register(claims_for(Some(1), &[]))).collect();
    let notifications: Vec<_> = registered.iter().map(Waiter::notified).collect();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 2 });
    assert_eq!(notifications.into_iter().filter_map(|notified| is_woken(notified).then_some(())).count(), 2);
}

#[test]
fn ready_task_wakes_claims_with_any_capabilities_but_not_those_of_other_runs() {
    let waiters = Waiters::default();
    let registered =
        [claims_for(Some(1), &[]), claims_for(Some(1), &["gpu"]), claims_for(None, &[]), claims_for(Some(2), &[])];
    let registered = registered.map(|what| waiters.claims.register(what));
    let notifications: Vec<_> = registered.iter().map(Waiter::notified).collect();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    let woken: Vec<bool> = notifications.into_iter().map(is_woken).collect();
    assert_eq!(woken, [true, true, true, false]);
}

#[test]
fn freed_paths_wake_the_claims_of_every_run_in_the_repository() {
    let waiters = Waiters::default();
    let registered = [claims_for(Some(1), &[]), claims_for(Some(2), &[]), claims_for(None, &[])]
        .map(|what| waiters.claims.register(what));
    let wait_again = || registered.iter().map(Waiter::notified).collect::<Vec<_>>();
    let notifications = wait_again();
    waiters.handle(&Signal::PathsFreed { repo_path: "other".into() });
    assert_eq!(notifications.into_iter().map(is_woken).collect::<Vec<_>>(), [false, false, true]);
    let notifications = wait_again();
    waiters.handle(&Signal::PathsFreed { repo_path: "repo".into() });
    assert!(notifications.into_iter().all(is_woken));
}

/// The caller of a woken call may disconnect before the call reads the store.
#[test]
fn waiter_dropped_after_its_notification_wakes_another() {
    let waiters = Waiters::default();
    let (first, second) =
        (waiters.claims.register(claims_for(None, &[])), waiters.claims.register(claims_for(None, &[])));
    let (dropped, waiting) = (first.notified(), second.notified());
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    drop(dropped);
    drop(first);
    assert!(is_woken(waiting));
}

/// The caller may also disconnect while the woken call reads the store.
#[test]
fn wakeup_dropped_without_a_result_wakes_another() {
    let waiters = Waiters::default();
    let (first, second) =
        (waiters.claims.register(claims_for(None, &[])), waiters.claims.register(claims_for(None, &[])));
    let (received, waiting) = (first.notified(), second.notified());
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    assert!(is_woken(received));
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
fn notification_between_registering_and_waiting_is_received() {
    let waiters = Waiters::default();
    let waiter = waiters.approvals.register(7);
    let notified = waiter.notified();
    waiters.handle(&Signal::Decided(8));
    waiters.handle(&Signal::Decided(7));
    assert!(is_woken(notified));
}

#[test]
fn list_without_waiters_is_removed() {
    let waiters = Waiters::default();
    drop(waiters.claims.register(claims_for(None, &[])));
    assert!(waiters.claims.lock().is_empty());
}

#[test]
fn due_timer_keeps_the_earliest_time() {
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
