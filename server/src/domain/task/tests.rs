use super::*;
use crate::domain::run::RunDraft;

const NOW: Timestamp = Timestamp::from_micros(7);
const LEASE: Duration = Duration::from_secs(60);
const RUN: RunStatus = RunStatus::Running;

fn task_with_status(status: TaskStatus) -> Task {
    let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Labels::new() };
    let run = Run::new(1, "r".into(), draft, NOW);
    Task {
        status,
        attempt_count: 1,
        implementation_summary: Some("before".into()),
        blocker_signature: Some("before".into()),
        agent_id: (status == TaskStatus::InProgress).then(|| "a".into()),
        lease: (status == TaskStatus::InProgress).then(|| Lease::start("token".into(), LEASE, NOW)),
        ..Task::new(1, "t".into(), &run, 1, TaskSpec::default(), NOW)
    }
}

fn leased_task_with_max_attempts(max_attempts: i32) -> Task {
    let held = task_with_status(TaskStatus::InProgress);
    Task { spec: TaskSpec { max_attempts, ..held.spec.clone() }, ..held }
}

fn create_ending_with_summary(to: EndStatus) -> Ending {
    Ending { summary: Some("s".into()), ..Ending::new(to) }
}

fn end_task(task: &Task, role: Role, to: EndStatus) -> Result<Task> {
    task.ended(role, &create_ending_with_summary(to), RUN, NOW)
}

#[test]
fn task_status_decides_which_endings_are_allowed() {
    use TaskStatus::{Abandoned, Blocked, Completed, InProgress, Pending};
    let allowed = [
        (EndStatus::Completed, vec![Pending, InProgress, Blocked]),
        (EndStatus::Blocked, vec![Pending, InProgress]),
        (EndStatus::Abandoned, vec![Pending, InProgress, Blocked]),
        (EndStatus::Failed, vec![InProgress]),
        (EndStatus::Released, vec![InProgress]),
    ];
    for (to, from) in allowed {
        for status in [Pending, InProgress, Completed, Blocked, Abandoned] {
            assert_eq!(
                end_task(&task_with_status(status), Role::Holder, to).is_ok(),
                from.contains(&status),
                "{status:?} to {to:?}"
            );
        }
    }
}

#[test]
fn completing_a_leased_task_requires_the_lease_token() {
    let held = task_with_status(TaskStatus::InProgress);
    assert_eq!(
        end_task(&held, Role::Operator, EndStatus::Completed),
        Err(Error::LeaseRequired { task_id: "t".into(), agent_id: "a".into() })
    );
    assert!(end_task(&held, Role::Operator, EndStatus::Blocked).is_ok());
}

#[test]
fn task_with_open_dependencies_cannot_be_completed() {
    let waiting = Task { open_dependencies: 1, ..task_with_status(TaskStatus::Pending) };
    assert!(matches!(end_task(&waiting, Role::Operator, EndStatus::Completed), Err(Error::WrongStatus { .. })));
    assert!(end_task(&waiting, Role::Operator, EndStatus::Abandoned).is_ok());
}

#[test]
fn ending_a_task_removes_the_lease_and_sets_the_summary() {
    let ended = end_task(&task_with_status(TaskStatus::InProgress), Role::Holder, EndStatus::Completed).unwrap();
    assert_eq!(ended.role_of(&Caller::Holder("token".into())), None);
    assert_eq!((ended.implementation_summary.as_deref(), ended.blocker_signature), (Some("s"), None));
    assert_eq!(ended.revision, 2);
}

#[test]
fn released_task_keeps_its_summary() {
    let released = end_task(&task_with_status(TaskStatus::InProgress), Role::Holder, EndStatus::Released).unwrap();
    assert_eq!((released.status, released.failure_count), (TaskStatus::Pending, 0));
    assert_eq!(released.implementation_summary.as_deref(), Some("before"));
}

#[test]
fn task_is_blocked_after_max_attempts_failures() {
    let once = end_task(&leased_task_with_max_attempts(2), Role::Holder, EndStatus::Failed).unwrap();
    assert_eq!((once.status, once.failure_count, once.blocker_signature.clone()), (TaskStatus::Pending, 1, None));
    let again = Task { status: TaskStatus::InProgress, ..once };
    let twice = end_task(&again, Role::Holder, EndStatus::Failed).unwrap();
    assert_eq!((twice.status, twice.blocker_signature.as_deref()), (TaskStatus::Blocked, Some(ATTEMPTS_EXHAUSTED)));
    let signed = Ending { blocker_signature: Some("own".into()), ..create_ending_with_summary(EndStatus::Failed) };
    let signed = again.ended(Role::Holder, &signed, RUN, NOW).unwrap();
    assert_eq!((signed.status, signed.blocker_signature.as_deref()), (TaskStatus::Blocked, Some("own")));
    assert_eq!(
        end_task(&leased_task_with_max_attempts(0), Role::Holder, EndStatus::Failed).unwrap().status,
        TaskStatus::Pending
    );
}

#[test]
fn failed_task_is_ready_after_its_retry_delay() {
    let delayed = Ending { retry_delay: Some(LEASE), ..create_ending_with_summary(EndStatus::Failed) };
    let failed = task_with_status(TaskStatus::InProgress).ended(Role::Holder, &delayed, RUN, NOW).unwrap();
    assert!(!failed.is_ready(NOW) && failed.is_ready(NOW.plus(LEASE)));
}

#[test]
fn token_of_an_expired_lease_is_not_stale() {
    let expired = task_with_status(TaskStatus::InProgress).expired(RUN, NOW);
    assert_eq!((expired.status, expired.failure_count, expired.agent_id.clone()), (TaskStatus::Pending, 1, None));
    assert_eq!(expired.role_of(&Caller::Holder("token".into())), Some(Role::LateHolder));
    assert_eq!(expired.role_of(&Caller::Holder("other".into())), None);
    let claimed = expired.claimed("b", Lease::start("new".into(), LEASE, NOW), NOW);
    assert_eq!(claimed.role_of(&Caller::Holder("token".into())), None);
}

/// Checks that an attempt counts as at most one failure, and that the expiry does not count as a failure if the agent
/// that held the expired lease completes, blocks or abandons the task.
#[test]
fn report_with_an_expired_lease_replaces_the_expiry() {
    let exhausted = leased_task_with_max_attempts(1).expired(RUN, NOW);
    assert_eq!(
        (exhausted.status, exhausted.blocker_signature.as_deref()),
        (TaskStatus::Blocked, Some(ATTEMPTS_EXHAUSTED))
    );
    for (to, status, failures) in [
        (EndStatus::Completed, TaskStatus::Completed, 0),
        (EndStatus::Blocked, TaskStatus::Blocked, 0),
        (EndStatus::Abandoned, TaskStatus::Abandoned, 0),
        (EndStatus::Failed, TaskStatus::Blocked, 1),
    ] {
        let ended = end_task(&exhausted, Role::LateHolder, to).unwrap();
        assert_eq!((ended.status, ended.failure_count), (status, failures), "{to:?}");
    }
    assert!(matches!(end_task(&exhausted, Role::LateHolder, EndStatus::Released), Err(Error::WrongStatus { .. })));
    let pending = task_with_status(TaskStatus::InProgress).expired(RUN, NOW);
    assert_eq!(end_task(&pending, Role::LateHolder, EndStatus::Failed).unwrap().failure_count, 1);
    let resumed = pending.resumed(Some("a".into()), Lease::start("token".into(), LEASE, NOW), NOW);
    assert_eq!((resumed.status, resumed.failure_count), (TaskStatus::InProgress, 0));
}

#[test]
fn no_task_of_a_cancelling_run_becomes_pending_again() {
    let held = task_with_status(TaskStatus::InProgress);
    for to in [EndStatus::Failed, EndStatus::Released] {
        let ended = held.ended(Role::Holder, &create_ending_with_summary(to), RunStatus::Cancelling, NOW).unwrap();
        assert_eq!(ended.status, TaskStatus::Abandoned, "{to:?}");
    }
    let expired = held.expired(RunStatus::Cancelling, NOW);
    assert_eq!((expired.status, expired.lease), (TaskStatus::Abandoned, None));
}

#[test]
fn requeued_task_has_no_failures_and_keeps_its_attempt_count() {
    let blocked = leased_task_with_max_attempts(1).expired(RUN, NOW);
    let requeued = blocked.requeued(NOW).unwrap();
    assert_eq!((requeued.status, requeued.failure_count, requeued.attempt_count), (TaskStatus::Pending, 0, 1));
    assert_eq!((requeued.blocker_signature, requeued.lease), (None, None));
    assert!(
        task_with_status(TaskStatus::Pending).requeued(NOW).is_err()
            && task_with_status(TaskStatus::Completed).requeued(NOW).is_err()
    );
}

#[test]
fn agent_needs_every_required_capability() {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(contains_all(&[], &[]));
    assert!(contains_all(&names(&["a", "b"]), &names(&["b"])));
    assert!(!contains_all(&names(&["a"]), &names(&["a", "b"])));
}
