//! Values that are blank, unknown, of another kind or out of range: leases, run control and approvals.

use runhub_client::Reason;
use runhub_client::v1::*;

use super::{Case, NOTHING, World, bad_ids, case, field, refused, run_ids, task_ids};
use crate::support::calls::*;

pub fn all(world: &World) -> Vec<Case> {
    let parts = [leases, endings, run_control, paths, approval_requests, decisions];
    parts.into_iter().flat_map(|part| part(world)).collect()
}

/// Adds a case for each bad `approval_id` of an RPC.
macro_rules! approval_ids {
    ($cases:expr, $world:expr, $rpc:ident, $request:expr) => {
        for (what, id, expected) in bad_ids("approval_id", &$world.run, Reason::ApprovalNotFound) {
            let mut request = $request;
            request.approval_id = id;
            case!($cases, $world.client, $rpc, what, request, expected);
        }
    };
}

fn duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

/// Durations that no lease may have.
const NO_LEASES: [(i64, i32); 5] = [(-1, 0), (0, 0), (0, 999_999_999), (86_400, 1), (i64::MAX, 0)];

fn leases(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let beat = |token: &str| Beat { lease_token: token.into(), ..unset() };
    for (seconds, nanos) in NO_LEASES {
        let lease_duration = duration(seconds, nanos);
        let claim = ClaimTaskRequest { lease_duration, ..claim_request(&world.run, "agent") };
        case!(cases, client, claim_task, format!("a lease of {seconds}.{nanos}"), claim, field("lease_duration"));
        let heartbeat = HeartbeatRequest { beats: vec![beat("x")], lease_duration };
        case!(cases, client, heartbeat, format!("a lease of {seconds}.{nanos}"), heartbeat, field("lease_duration"));
    }
    let claim = ClaimTaskRequest { wait: duration(-1, 0), ..claim_request(&world.run, "agent") };
    case!(cases, client, claim_task, "a negative wait", claim, field("wait"));
    let run_id = world.cancelling_run.clone();
    let claim = ClaimTaskRequest { wait: duration(9, 0), ..claim_request(&run_id, "agent") };
    case!(cases, client, claim_task, "a run being cancelled", claim, refused(Reason::RunEnded));
    for token in ["", " ", &"x".repeat(129)] {
        let heartbeat = HeartbeatRequest { beats: vec![beat("x"), beat(token)], ..unset() };
        case!(cases, client, heartbeat, format!("the token {token:?}"), heartbeat, field("beats[1].lease_token"));
    }
    let progress = Some(prost_types::Value::from(f64::NAN));
    let heartbeat = HeartbeatRequest { beats: vec![Beat { progress, ..beat("x") }], ..unset() };
    case!(cases, client, heartbeat, "NaN", heartbeat, field("beats[0].progress"));
    let heartbeat = HeartbeatRequest { beats: vec![beat("x"); 1_001], ..unset() };
    case!(cases, client, heartbeat, "1,001 beats", heartbeat, field("beats"));
    task_ids!(cases, world, explain_task, ExplainTaskRequest::default());
    cases
}

fn endings(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let fail = || FailTaskRequest { task_id: world.task.clone(), lease_token: "x".into(), ..unset() };
    let release = || ReleaseTaskRequest { task_id: world.task.clone(), lease_token: "x".into(), ..unset() };
    task_ids!(cases, world, fail_task, fail());
    task_ids!(cases, world, release_task, release());
    task_ids!(cases, world, requeue_task, RequeueTaskRequest::default());
    for token in ["", "\t"] {
        let request = FailTaskRequest { lease_token: token.into(), ..fail() };
        case!(cases, client, fail_task, format!("the token {token:?}"), request, field("lease_token"));
        let request = ReleaseTaskRequest { lease_token: token.into(), ..release() };
        case!(cases, client, release_task, format!("the token {token:?}"), request, field("lease_token"));
    }
    for delay in [duration(-1, 0), duration(366 * 86_400, 0), duration(0, -1)] {
        let request = FailTaskRequest { retry_delay: delay, ..fail() };
        case!(cases, client, fail_task, format!("a delay of {delay:?}"), request, field("retry_delay"));
    }
    let result = Some(prost_types::Value::from(f64::INFINITY));
    case!(cases, client, fail_task, "infinity", FailTaskRequest { result, ..fail() }, field("result"));
    let reason = "x".repeat(64 * 1024 + 1);
    case!(cases, client, release_task, "a long reason", ReleaseTaskRequest { reason, ..release() }, field("reason"));
    let requeue = |id: &str| RequeueTaskRequest { task_id: id.into(), ..unset() };
    case!(cases, client, requeue_task, "a pending task", requeue(&world.task), refused(Reason::WrongStatus));
    let orphan = requeue(&world.orphaned_task);
    case!(cases, client, requeue_task, "a task whose dependency is abandoned", orphan, refused(Reason::WrongStatus));
    let cancelling = requeue(&world.cancelling_task);
    case!(cases, client, requeue_task, "a run being cancelled", cancelling, refused(Reason::RunEnded));
    let run_id = world.cancelling_run.clone();
    let all = RequeueInProgressTasksRequest { run_id, ..unset() };
    case!(cases, client, requeue_in_progress_tasks, "a run being cancelled", all, refused(Reason::RunEnded));
    cases
}

fn run_control(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    run_ids!(cases, world, pause_run, PauseRunRequest::default());
    run_ids!(cases, world, resume_run, ResumeRunRequest::default());
    run_ids!(cases, world, cancel_run, CancelRunRequest::default());
    let cancel = |run_id: &str| CancelRunRequest { run_id: run_id.into(), ..unset() };
    for grace in [duration(-1, 0), duration(86_400, 1), duration(i64::MIN, 0)] {
        let request = CancelRunRequest { grace, ..cancel(&world.run) };
        case!(cases, client, cancel_run, format!("a grace of {grace:?}"), request, field("grace"));
    }
    for (what, run_id) in [("has ended", &world.ended_run), ("is being cancelled", &world.cancelling_run)] {
        let what = format!("a run that {what}");
        let pause = PauseRunRequest { run_id: run_id.clone(), ..unset() };
        case!(cases, client, pause_run, what.clone(), pause, refused(Reason::RunEnded));
        let resume = ResumeRunRequest { run_id: run_id.clone(), ..unset() };
        case!(cases, client, resume_run, what.clone(), resume, refused(Reason::RunEnded));
        let add = AddTasksRequest { run_id: run_id.clone(), tasks: vec![draft("t")], ..unset() };
        case!(cases, client, add_tasks, what.clone(), add, refused(Reason::RunEnded));
        let ask = RequestApprovalRequest { run_id: run_id.clone(), title: "t".into(), ..unset() };
        case!(cases, client, request_approval, what, ask, refused(Reason::RunEnded));
    }
    let cancel = cancel(&world.ended_run);
    case!(cases, client, cancel_run, "a run that has ended", cancel, refused(Reason::RunEnded));
    run_ids!(cases, world, delete_run, DeleteRunRequest::default());
    let delete = DeleteRunRequest { run_id: world.run.clone(), ..unset() };
    case!(cases, client, delete_run, "a run that has not ended", delete, refused(Reason::WrongStatus));
    let delete = |expected_revision| DeleteRunRequest { run_id: world.ended_run.clone(), expected_revision, ..unset() };
    case!(cases, client, delete_run, "a negative revision", delete(Some(-1)), field("expected_revision"));
    case!(cases, client, delete_run, "an old revision", delete(Some(0)), refused(Reason::RevisionMismatch));
    let reason = "\0".to_owned();
    let pause = PauseRunRequest { run_id: world.run.clone(), reason, ..unset() };
    case!(cases, client, pause_run, "NUL in the reason", pause, field("reason"));
    let status = Some(RunStatus::Running.into());
    let update = UpdateRunRequest { run_id: world.cancelling_run.clone(), status, ..unset() };
    case!(cases, client, update_run, "a run being cancelled", update, refused(Reason::WrongStatus));
    cases
}

/// C7: invalid path patterns and policies.
fn paths(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    for path in [
        "/a", "a//b", ".", "./a", "a/../b", "**.rs", "a/b**", "*/", "/", " ", "a\\b", "C:/a", "~/a", "!a", "a\nb",
        " a", "a ", "{a,b}",
    ] {
        let tasks = vec![TaskDraft { allowed_paths: vec!["ok/**".into(), path.into()], ..draft("t") }];
        let run_id = world.run.clone();
        let name = field("tasks[0].allowed_paths[1]");
        let add = AddTasksRequest { run_id: run_id.clone(), tasks: tasks.clone(), ..unset() };
        case!(cases, client, add_tasks, format!("the path {path:?}"), add, name.clone());
        let replace = ReplacePendingTasksRequest { run_id, tasks, ..unset() };
        case!(cases, client, replace_pending_tasks, format!("the path {path:?}"), replace, name);
    }
    let tasks = vec![TaskDraft { acceptance_criteria: vec!["c".repeat(64 * 1024); 49], ..draft("t") }];
    let add = AddTasksRequest { run_id: world.run.clone(), tasks, ..unset() };
    case!(cases, client, add_tasks, "a task of 3 MiB", add, field("tasks[0]"));
    let tasks = vec![TaskDraft { allowed_paths: vec!["x".repeat(4_096); 9], ..draft("t") }];
    let add = AddTasksRequest { run_id: world.run.clone(), tasks, ..unset() };
    case!(cases, client, add_tasks, "36 KiB of paths", add, field("tasks[0].allowed_paths"));
    for policy in ["", "OFF", "maybe"] {
        let labels = [("path_policy".to_owned(), policy.to_owned())].into();
        let create = CreateRunRequest { goal: "g".into(), repo_path: "r".into(), labels, ..unset() };
        case!(cases, client, create_run, format!("the path_policy {policy:?}"), create, field("labels"));
    }
    cases
}

fn approval_requests(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let ask = || RequestApprovalRequest { run_id: world.run.clone(), title: "t".into(), ..unset() };
    run_ids!(cases, world, request_approval, ask());
    let time = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let bad = [
        ("title", RequestApprovalRequest { title: " ".into(), ..ask() }),
        ("task_id", RequestApprovalRequest { task_id: Some(String::new()), ..ask() }),
        ("requested_by", RequestApprovalRequest { requested_by: "a\nb".into(), ..ask() }),
        ("subject_digest", RequestApprovalRequest { subject_digest: "x".repeat(64 * 1024 + 1), ..ask() }),
        ("on_expiry", RequestApprovalRequest { on_expiry: 5, ..ask() }),
        ("expire_time", RequestApprovalRequest { expire_time: time(i64::MAX), ..ask() }),
        ("ttl", RequestApprovalRequest { ttl: duration(-1, 0), ..ask() }),
        ("ttl", RequestApprovalRequest { ttl: duration(366 * 86_400, 0), ..ask() }),
        ("ttl", RequestApprovalRequest { ttl: duration(1, 0), expire_time: time(1), ..ask() }),
        ("payload", RequestApprovalRequest { payload: Some(prost_types::Value::from(f64::NAN)), ..ask() }),
    ];
    for (name, request) in bad {
        case!(cases, client, request_approval, format!("a bad {name}"), request, field(name));
    }
    let foreign = RequestApprovalRequest { task_id: Some(world.foreign_task.clone()), ..ask() };
    case!(cases, client, request_approval, "a task of another run", foreign, refused(Reason::TaskNotFound));
    let unknown = RequestApprovalRequest { task_id: Some(NOTHING.into()), ..ask() };
    case!(cases, client, request_approval, "an unknown task", unknown, refused(Reason::TaskNotFound));
    cases
}

fn decisions(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let decide = |id: &str| DecideApprovalRequest {
        approval_id: id.into(),
        source: "human".into(),
        verdict: ApprovalVerdict::Approved.into(),
        ..unset()
    };
    let consume = |id: &str, digest: &str| ConsumeApprovalRequest {
        approval_id: id.into(),
        subject_digest: digest.into(),
        ..unset()
    };
    approval_ids!(cases, world, decide_approval, decide(""));
    approval_ids!(cases, world, consume_approval, consume("", "d"));
    approval_ids!(cases, world, wait_approval, WaitApprovalRequest::default());
    approval_ids!(cases, world, cancel_approval, CancelApprovalRequest::default());
    approval_ids!(cases, world, get_approval, GetApprovalRequest::default());
    let open = || decide(&world.approval);
    for verdict in [0, 1, 5, 6, 7] {
        let request = DecideApprovalRequest { verdict, ..open() };
        case!(cases, client, decide_approval, format!("verdict {verdict}"), request, field("verdict"));
    }
    for source in ["", "system", "a\u{1b}"] {
        let request = DecideApprovalRequest { source: source.into(), ..open() };
        case!(cases, client, decide_approval, format!("the source {source:?}"), request, field("source"));
    }
    let request = DecideApprovalRequest { expected_revision: Some(9), ..open() };
    case!(cases, client, decide_approval, "another revision", request, refused(Reason::RevisionMismatch));
    let request = DecideApprovalRequest { expected_revision: Some(-9), ..open() };
    case!(cases, client, decide_approval, "a negative revision", request, field("expected_revision"));
    let request = DecideApprovalRequest { expected_subject_digest: Some("other".into()), ..open() };
    case!(cases, client, decide_approval, "another digest", request, refused(Reason::DigestMismatch));
    let late = decide(&world.decided_approval);
    case!(cases, client, decide_approval, "a decided approval", late, refused(Reason::AlreadyDecided));
    let late = CancelApprovalRequest { approval_id: world.decided_approval.clone(), ..unset() };
    case!(cases, client, cancel_approval, "a decided approval", late, refused(Reason::AlreadyDecided));
    let wait = WaitApprovalRequest { approval_id: world.approval.clone(), wait: duration(-1, 0) };
    case!(cases, client, wait_approval, "a negative wait", wait, field("wait"));
    let early = consume(&world.approval, "d");
    case!(cases, client, consume_approval, "a pending approval", early, refused(Reason::NotApproved));
    let blank = consume(&world.decided_approval, " ");
    case!(cases, client, consume_approval, "a blank digest", blank, field("subject_digest"));
    let other = consume(&world.decided_approval, "other");
    case!(cases, client, consume_approval, "another digest", other, refused(Reason::DigestMismatch));
    let again = consume(&world.decided_approval, "digest");
    case!(cases, client, consume_approval, "a consumed approval", again, refused(Reason::AlreadyConsumed));
    cases
}
