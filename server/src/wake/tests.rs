use super::*;

fn new_claim_criteria(run: Option<Key>, capabilities: &[&str]) -> ClaimCriteria {
    let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
    ClaimCriteria { run: run.map(|key| (key, "repo".to_owned())), capabilities }
}

/// Returns whether the notification has arrived. The function does not wait.
fn is_woken(notified: Pin<Box<OwnedNotified>>) -> bool {
    use futures_util::FutureExt;
    notified.now_or_never().is_some()
}

#[test]
fn change_wakes_one_claim_for_each_ready_task() {
    let waiters = Waiters::default();
    let registered: Vec<_> = (0..5).map(|_| waiters.claims.register(new_claim_criteria(Some(1), &[]))).collect();
    let notifications: Vec<_> = registered.iter().map(Waiter::notified).collect();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 2 });
    assert_eq!(notifications.into_iter().filter_map(|notified| is_woken(notified).then_some(())).count(), 2);
}

#[test]
fn ready_task_wakes_claims_with_any_capabilities_but_no_claims_of_other_runs() {
    let waiters = Waiters::default();
    let registered = [
        new_claim_criteria(Some(1), &[]),
        new_claim_criteria(Some(1), &["gpu"]),
        new_claim_criteria(None, &[]),
        new_claim_criteria(Some(2), &[]),
    ];
    let registered = registered.map(|claims| waiters.claims.register(claims));
    let notifications: Vec<_> = registered.iter().map(Waiter::notified).collect();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    let woken: Vec<bool> = notifications.into_iter().map(is_woken).collect();
    assert_eq!(woken, [true, true, true, false]);
}

#[test]
fn freed_paths_wake_the_claims_of_every_run_in_the_repository() {
    let waiters = Waiters::default();
    let registered =
        [new_claim_criteria(Some(1), &[]), new_claim_criteria(Some(2), &[]), new_claim_criteria(None, &[])]
            .map(|claims| waiters.claims.register(claims));
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
fn waiter_dropped_after_its_notification_wakes_another_waiter() {
    let waiters = Waiters::default();
    let first = waiters.claims.register(new_claim_criteria(None, &[]));
    let second = waiters.claims.register(new_claim_criteria(None, &[]));
    let dropped = first.notified();
    let waiting = second.notified();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    drop(dropped);
    drop(first);
    assert!(is_woken(waiting));
}

/// The caller of a woken call may disconnect while the call reads the store.
#[test]
fn wakeup_dropped_without_a_result_wakes_another_waiter() {
    let waiters = Waiters::default();
    let first = waiters.claims.register(new_claim_criteria(None, &[]));
    let second = waiters.claims.register(new_claim_criteria(None, &[]));
    let received = first.notified();
    let waiting = second.notified();
    waiters.handle(&Signal::Ready { run_key: 1, tasks: 1 });
    assert!(is_woken(received));
    drop(first.receive_wakeup());
    assert!(is_woken(waiting));
    let waiting = second.notified();
    first.receive_wakeup().report_no_task();
    first.receive_wakeup().report_task(false);
    assert!(!is_woken(waiting));
    let waiting = second.notified();
    first.receive_wakeup().report_task(true);
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
    drop(waiters.claims.register(new_claim_criteria(None, &[])));
    let lists = waiters.claims.lock();
    assert!(lists.by_key.is_empty() && lists.by_group.is_empty());
}

#[test]
fn due_timer_keeps_the_earliest_time() {
    let due_timer = DueTimer::default();
    let at = Timestamp::from_micros;
    due_timer.bring_forward(at(5));
    due_timer.bring_forward(at(9));
    assert_eq!(due_timer.next_time(), Some(at(5)));
    due_timer.bring_forward(at(3));
    assert_eq!(due_timer.next_time(), Some(at(3)));
    due_timer.reset();
    assert_eq!(due_timer.next_time(), None);
}
