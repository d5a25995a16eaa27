//! Values that are blank, unknown, of another kind or out of range: runs, agents, tasks and events.

use runhub_client::Reason;
use runhub_client::v1::*;

use super::{Case, Expected, NOTHING, World, case, field, refused, run_ids, task_ids};
use crate::support::calls::*;

pub fn all(world: &World) -> Vec<Case> {
    let parts = [runs, run_updates, agents, plans, work, attempts, events];
    parts.into_iter().flat_map(|part| part(world)).collect()
}

fn runs(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let create =
        |goal: &str, repo_path: &str| CreateRunRequest { goal: goal.into(), repo_path: repo_path.into(), ..unset() };
    case!(cases, client, create_run, "no goal", create("", "/repo"), field("goal"));
    case!(cases, client, create_run, "a blank goal", create(" ", "/repo"), field("goal"));
    case!(cases, client, create_run, "no repo_path", create("g", ""), field("repo_path"));
    case!(cases, client, create_run, "NUL in the goal", create("g\0", "/repo"), field("goal"));
    case!(cases, client, create_run, "NUL in the repo_path", create("g", "/\0"), field("repo_path"));
    let request_id = |id: &str| CreateRunRequest { request_id: id.into(), ..create("g", "/repo") };
    case!(cases, client, create_run, "a blank request_id", request_id(" "), field("request_id"));
    case!(cases, client, create_run, "a request_id with a newline", request_id("a\nb"), field("request_id"));
    case!(cases, client, create_run, "a long request_id", request_id(&"x".repeat(129)), field("request_id"));
    run_ids!(cases, world, get_run, GetRunRequest::default());
    run_ids!(cases, world, increment_cycle, IncrementCycleRequest::default());
    run_ids!(cases, world, increment_replan, IncrementReplanRequest::default());
    run_ids!(cases, world, get_run_snapshot, GetRunSnapshotRequest::default());
    let snapshot = || GetRunSnapshotRequest { run_id: world.run.clone(), ..unset() };
    let limited = [
        ("event_limit", GetRunSnapshotRequest { event_limit: -1, ..snapshot() }),
        ("attempt_limit", GetRunSnapshotRequest { attempt_limit: -1, ..snapshot() }),
        ("task_limit", GetRunSnapshotRequest { task_limit: -1, ..snapshot() }),
        ("approval_limit", GetRunSnapshotRequest { approval_limit: -1, ..snapshot() }),
        ("artifact_limit", GetRunSnapshotRequest { artifact_limit: -1, ..snapshot() }),
    ];
    for (name, request) in limited {
        case!(cases, client, get_run_snapshot, "a negative limit", request, field(name));
    }
    let list = ListRunsRequest { statuses: vec![1, 99], ..unset() };
    case!(cases, client, list_runs, "an unknown status", list, field("statuses[1]"));
    let list = ListRunsRequest { statuses: vec![0], ..unset() };
    case!(cases, client, list_runs, "an unspecified status", list, field("statuses[0]"));
    cases
}

fn run_updates(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let update = || UpdateRunRequest { run_id: world.run.clone(), ..unset() };
    run_ids!(cases, world, update_run, UpdateRunRequest::default());
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.into()] });
    let request = UpdateRunRequest { update_mask: mask("goal"), ..update() };
    case!(cases, client, update_run, "a mask with another field", request, field("update_mask"));
    let request = UpdateRunRequest { update_mask: mask(""), ..update() };
    case!(cases, client, update_run, "a mask with a blank path", request, field("update_mask"));
    let request = UpdateRunRequest { update_mask: mask("status"), ..update() };
    case!(cases, client, update_run, "a mask that clears the status", request, field("status"));
    for status in [0, 99, RunStatus::Paused.into(), RunStatus::Cancelling.into(), RunStatus::Cancelled.into()] {
        let request = UpdateRunRequest { status: Some(status), ..update() };
        case!(cases, client, update_run, format!("status {status}"), request, field("status"));
    }
    let request = UpdateRunRequest { current_task_id: Some(world.foreign_task.clone()), ..update() };
    case!(cases, client, update_run, "a task of another run", request, refused(Reason::TaskNotFound));
    let request = UpdateRunRequest { current_task_id: Some(String::new()), ..update() };
    case!(cases, client, update_run, "a blank task", request, field("current_task_id"));
    let request = UpdateRunRequest { expected_revision: Some(77), summary: Some("s".into()), ..update() };
    case!(cases, client, update_run, "another revision", request, refused(Reason::RevisionMismatch));
    let request = UpdateRunRequest { expected_revision: Some(-1), ..update() };
    case!(cases, client, update_run, "a negative revision", request, field("expected_revision"));
    cases
}

fn agents(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let state = || AgentState { run_id: world.run.clone(), role: "r".into(), ..unset() };
    let save = |state: AgentState| SaveAgentStateRequest { state: Some(state), ..unset() };
    case!(cases, client, save_agent_state, "no state", SaveAgentStateRequest::default(), field("state"));
    let bad = [
        ("state.run_id", AgentState { run_id: String::new(), ..state() }),
        ("state.role", AgentState { role: String::new(), ..state() }),
        ("state.role", AgentState { role: "a\0b".into(), ..state() }),
        ("state.role", AgentState { role: "a\u{1b}b".into(), ..state() }),
        ("state.turns", AgentState { turns: -1, ..state() }),
        ("state.rotation_count", AgentState { rotation_count: -1, ..state() }),
    ];
    for (name, state) in bad {
        case!(cases, client, save_agent_state, format!("a bad {name}"), save(state), field(name));
    }
    let unknown = save(AgentState { run_id: NOTHING.into(), ..state() });
    case!(cases, client, save_agent_state, "an unknown run", unknown, refused(Reason::RunNotFound));
    let expecting = SaveAgentStateRequest { expected_revision: Some(3), ..save(state()) };
    case!(cases, client, save_agent_state, "another revision", expecting, refused(Reason::RevisionMismatch));
    run_ids!(cases, world, get_agent_state, GetAgentStateRequest { role: "r".into(), ..unset() });
    let get = GetAgentStateRequest { run_id: world.run.clone(), role: " ".into() };
    case!(cases, client, get_agent_state, "a blank role", get, field("role"));
    run_ids!(cases, world, list_agent_states, ListAgentStatesRequest::default());
    cases
}

fn plans(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    run_ids!(cases, world, add_tasks, AddTasksRequest { tasks: vec![draft("t")], ..unset() });
    run_ids!(cases, world, replace_pending_tasks, ReplacePendingTasksRequest::default());
    let far = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    let bad = [
        ("tasks[1].title", TaskDraft { title: " ".into(), ..draft("t") }),
        ("tasks[1].key", keyed("one", &[])),
        ("tasks[1].key", keyed("a\tb", &[])),
        ("tasks[1].depends_on[0]", TaskDraft { depends_on: vec![NOTHING.into()], ..draft("t") }),
        ("tasks[1].depends_on[0]", TaskDraft { depends_on: vec![world.foreign_task.clone()], ..draft("t") }),
        ("tasks[1].depends_on[0]", TaskDraft { depends_on: vec![String::new()], ..draft("t") }),
        ("tasks[1].allowed_paths[0]", TaskDraft { allowed_paths: vec![String::new()], ..draft("t") }),
        ("tasks[1].required_capabilities[0]", TaskDraft { required_capabilities: vec!["\0".into()], ..draft("t") }),
        ("tasks[1].max_attempts", TaskDraft { max_attempts: -1, ..draft("t") }),
        ("tasks[1].not_before_time", TaskDraft { not_before_time: Some(far), ..draft("t") }),
    ];
    let mut both = |what: &str, tasks: Vec<TaskDraft>, expected: Expected| {
        let run_id = world.run.clone();
        let add = AddTasksRequest { run_id: run_id.clone(), tasks: tasks.clone(), ..unset() };
        case!(cases, client, add_tasks, what, add, expected.clone());
        let replace = ReplacePendingTasksRequest { run_id, tasks, ..unset() };
        case!(cases, client, replace_pending_tasks, what, replace, expected);
    };
    for (name, draft) in bad {
        both(name, vec![keyed("one", &[]), draft], field(name));
    }
    both("a cycle", vec![keyed("a", &["b"]), keyed("b", &["a"])], refused(Reason::DependencyCycle));
    both("a task that depends on itself", vec![keyed("a", &["a"])], refused(Reason::DependencyCycle));
    let on_abandoned = TaskDraft { depends_on: vec![world.abandoned_task.clone()], ..draft("t") };
    both("an abandoned dependency", vec![on_abandoned], refused(Reason::WrongStatus));
    both("1,001 tasks", vec![draft("t"); 1_001], field("tasks"));
    let run_id = world.ended_run.clone();
    let add = AddTasksRequest { run_id: run_id.clone(), tasks: vec![draft("t")], ..unset() };
    case!(cases, client, add_tasks, "a run that has ended", add, refused(Reason::RunEnded));
    let replace = ReplacePendingTasksRequest { run_id, ..unset() };
    case!(cases, client, replace_pending_tasks, "a run that has ended", replace, refused(Reason::RunEnded));
    let replace = || ReplacePendingTasksRequest { run_id: world.run.clone(), ..unset() };
    let request = ReplacePendingTasksRequest { expected_plan_version: Some(5), ..replace() };
    case!(cases, client, replace_pending_tasks, "another plan version", request, refused(Reason::PlanVersionMismatch));
    let request = ReplacePendingTasksRequest { expected_plan_version: Some(-5), ..replace() };
    case!(cases, client, replace_pending_tasks, "a negative plan version", request, field("expected_plan_version"));
    let request = ReplacePendingTasksRequest { in_progress: 9, ..replace() };
    case!(cases, client, replace_pending_tasks, "an unknown policy", request, field("in_progress"));
    let request = ReplacePendingTasksRequest {
        tasks: vec![TaskDraft { depends_on: vec![world.task.clone()], ..draft("t") }],
        ..replace()
    };
    case!(cases, client, replace_pending_tasks, "a task that the call abandons", request, refused(Reason::WrongStatus));
    cases
}

fn work(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let claim = || claim_request(&world.run, "agent");
    for agent_id in ["", " ", "a\nb"] {
        let request = ClaimTaskRequest { agent_id: agent_id.into(), ..claim() };
        case!(cases, client, claim_task, format!("agent {agent_id:?}"), request, field("agent_id"));
    }
    let request = ClaimTaskRequest { run_id: NOTHING.into(), ..claim() };
    case!(cases, client, claim_task, "an unknown run", request, refused(Reason::RunNotFound));
    let request = ClaimTaskRequest { run_id: " ".into(), ..claim() };
    case!(cases, client, claim_task, "a blank run", request, field("run_id"));
    let request = ClaimTaskRequest { run_id: world.ended_run.clone(), ..claim() };
    case!(cases, client, claim_task, "a run that has ended", request, refused(Reason::RunEnded));
    let request = ClaimTaskRequest { capabilities: vec!["\u{7}".into()], ..claim() };
    case!(cases, client, claim_task, "a control character in a capability", request, field("capabilities[0]"));
    task_ids!(cases, world, get_task, GetTaskRequest::default());
    task_ids!(cases, world, complete_task, CompleteTaskRequest::default());
    task_ids!(cases, world, block_task, BlockTaskRequest::default());
    task_ids!(cases, world, abandon_task, AbandonTaskRequest::default());
    let task_id = world.task.clone();
    let blank = Some(" ".to_owned());
    let request = CompleteTaskRequest { task_id: task_id.clone(), lease_token: blank.clone(), ..unset() };
    case!(cases, client, complete_task, "a blank token", request, field("lease_token"));
    let request = BlockTaskRequest { task_id: task_id.clone(), lease_token: blank.clone(), ..unset() };
    case!(cases, client, block_task, "a blank token", request, field("lease_token"));
    let request = AbandonTaskRequest { task_id, lease_token: blank, ..unset() };
    case!(cases, client, abandon_task, "a blank token", request, field("lease_token"));
    let task_id = world.abandoned_task.clone();
    let request = CompleteTaskRequest { task_id: task_id.clone(), ..unset() };
    case!(cases, client, complete_task, "an abandoned task", request, refused(Reason::WrongStatus));
    let request = BlockTaskRequest { task_id, ..unset() };
    case!(cases, client, block_task, "an abandoned task", request, refused(Reason::WrongStatus));
    run_ids!(cases, world, list_tasks, ListTasksRequest::default());
    let request = ListTasksRequest { run_id: world.run.clone(), statuses: vec![6], ..unset() };
    case!(cases, client, list_tasks, "an unknown status", request, field("statuses[0]"));
    run_ids!(cases, world, requeue_in_progress_tasks, RequeueInProgressTasksRequest::default());
    cases
}

fn attempts(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let record = || RecordTaskAttemptRequest {
        run_id: world.run.clone(),
        task_id: world.task.clone(),
        status: AttemptStatus::Failed.into(),
        ..unset()
    };
    run_ids!(cases, world, record_task_attempt, record());
    task_ids!(cases, world, record_task_attempt, record());
    let request = RecordTaskAttemptRequest { task_id: world.foreign_task.clone(), ..record() };
    case!(cases, client, record_task_attempt, "a task of another run", request, refused(Reason::TaskNotFound));
    for status in [0, 8, -1] {
        let request = RecordTaskAttemptRequest { status, ..record() };
        case!(cases, client, record_task_attempt, format!("status {status}"), request, field("status"));
    }
    let request = RecordTaskAttemptRequest { attempt_number: -1, ..record() };
    case!(cases, client, record_task_attempt, "a negative number", request, field("attempt_number"));
    task_ids!(cases, world, get_latest_task_attempt, GetLatestTaskAttemptRequest::default());
    let list = |run_id: &str, task_id: &str, limit: i32| ListTaskAttemptsRequest {
        run_id: run_id.into(),
        task_id: task_id.into(),
        limit,
    };
    case!(cases, client, list_task_attempts, "no id", list("", "", 0), field("run_id"));
    case!(cases, client, list_task_attempts, "both ids", list(&world.run, &world.task, 0), field("run_id"));
    case!(cases, client, list_task_attempts, "a negative limit", list(&world.run, "", -1), field("limit"));
    case!(cases, client, list_task_attempts, "an id of a task", list(&world.task, "", 0), refused(Reason::RunNotFound));
    case!(cases, client, list_task_attempts, "an id of a run", list("", &world.run, 0), refused(Reason::TaskNotFound));
    cases
}

fn events(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let append = |event: EventDraft| AppendEventsRequest { run_id: world.run.clone(), events: vec![event], ..unset() };
    run_ids!(cases, world, append_events, append(event("k")));
    let bad = [
        ("events[0].source", EventDraft { source: String::new(), ..event("k") }),
        ("events[0].source", EventDraft { source: "system".into(), ..event("k") }),
        ("events[0].source", EventDraft { source: "a\0".into(), ..event("k") }),
        ("events[0].kind", event("")),
        ("events[0].kind", event("a\rb")),
        ("events[0].task_id", EventDraft { task_id: Some(String::new()), ..event("k") }),
    ];
    for (name, event) in bad {
        case!(cases, client, append_events, format!("a bad {name}"), append(event), field(name));
    }
    let foreign = append(EventDraft { task_id: Some(world.foreign_task.clone()), ..event("k") });
    case!(cases, client, append_events, "a task of another run", foreign, refused(Reason::TaskNotFound));
    let none = AppendEventsRequest { run_id: world.run.clone(), ..unset() };
    case!(cases, client, append_events, "no events", none, field("events"));
    let many = AppendEventsRequest { run_id: world.run.clone(), events: vec![event("k"); 1_001], ..unset() };
    case!(cases, client, append_events, "1,001 events", many, field("events"));
    let list = || ListEventsRequest { run_id: world.run.clone(), ..unset() };
    let request = ListEventsRequest { run_id: NOTHING.into(), ..unset() };
    case!(cases, client, list_events, "an unknown run", request, refused(Reason::RunNotFound));
    let request = ListEventsRequest { run_id: " ".into(), ..unset() };
    case!(cases, client, list_events, "a blank run", request, field("run_id"));
    case!(cases, client, list_events, "a negative limit", ListEventsRequest { limit: -1, ..list() }, field("limit"));
    let request = ListEventsRequest { after_position: Some(-1), ..list() };
    case!(cases, client, list_events, "a negative position", request, field("after_position"));
    let request = ListEventsRequest { before_position: Some(-1), ..list() };
    case!(cases, client, list_events, "a negative position", request, field("before_position"));
    let request = ListEventsRequest { log_id: Some("another".into()), ..list() };
    case!(cases, client, list_events, "a cursor of another log", request, refused(Reason::LogChanged));
    let request = ListEventsRequest { log_id: Some(String::new()), ..list() };
    case!(cases, client, list_events, "an empty log_id", request, field("log_id"));
    let request = ListEventsRequest { after_position: Some(1 << 40), ..list() };
    case!(cases, client, list_events, "a position never assigned", request, refused(Reason::PositionInFuture));
    let wait = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let request = ListEventsRequest { wait, after_position: Some(0), ..list() };
    case!(cases, client, list_events, "a negative wait", request, field("wait"));
    let request = ListEventsRequest { task_id: Some(world.foreign_task.clone()), ..list() };
    case!(cases, client, list_events, "a task of another run", request, refused(Reason::TaskNotFound));
    cases
}
