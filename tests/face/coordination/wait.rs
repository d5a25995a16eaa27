//! C2: claims that wait, and what an empty one says.

use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason};
use tokio::task::JoinHandle;

use crate::support::calls::*;
use crate::support::{TestServer, soon};

/// A claim that waits for minutes of a clock that stands still: whatever answers it, time does not.
fn waiting(run_id: &str, agent_id: &str) -> ClaimTaskRequest {
    ClaimTaskRequest { wait: seconds(200), ..claim_request(run_id, agent_id) }
}

type Waiting = JoinHandle<Result<Option<Claim>, Error>>;

/// Sends the claim and returns when the server holds it.
async fn wait_for_task(server: &TestServer, request: ClaimTaskRequest) -> Waiting {
    let client = server.client.clone();
    let call = tokio::spawn(async move { Ok(client.claim_task(request).await?.claim) });
    server.until_claims_wait(1).await;
    call
}

async fn given(call: Waiting) -> Claim {
    soon(call).await.unwrap().unwrap().expect("a task")
}

#[tokio::test]
async fn a_waiting_claim_is_woken_by_new_tasks() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    assert_eq!(task_id(&given(call).await), task.id);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_by_the_completion_of_a_dependency() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![keyed("a", &[]), keyed("b", &["a"])]).await;
    let first = claim(&server.client, &run.id).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    complete(&server.client, &first).await;
    assert_eq!(given(call).await.task.unwrap().title, "b");
}

/// Whatever makes a held task pending again.
#[tokio::test]
async fn a_waiting_claim_is_woken_by_a_task_that_comes_back() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let task = add_task(client, &run.id, draft("t")).await;
    for cause in ["release", "fail", "requeue", "requeue all", "block and requeue", "expiry"] {
        let held = claim_for(client, &run.id, "first", 60).await.unwrap();
        let call = wait_for_task(&server, waiting(&run.id, "second")).await;
        match cause {
            "release" => drop(release(client, &held).await.unwrap()),
            "fail" => drop(fail(client, &held).await),
            "requeue" => drop(requeue(client, &task.id).await.unwrap()),
            "requeue all" => {
                let all = RequeueInProgressTasksRequest { run_id: run.id.clone(), ..unset() };
                client.requeue_in_progress_tasks(all).await.unwrap();
            }
            "block and requeue" => {
                let block = BlockTaskRequest { task_id: task.id.clone(), ..unset() };
                client.block_task(block).await.unwrap();
                requeue(client, &task.id).await.unwrap();
            }
            _ => server.clock.advance(Duration::from_secs(60)),
        }
        let taken = given(call).await;
        assert_eq!(taken.task.as_ref().unwrap().agent_id.as_deref(), Some("second"), "{cause}");
        release(client, &taken).await.unwrap();
    }
}

#[tokio::test]
async fn a_waiting_claim_is_woken_when_a_task_may_be_given_out() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_800_000_030, nanos: 0 });
    add_task(client, &run.id, TaskDraft { not_before_time, ..draft("t") }).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    server.clock.advance(Duration::from_secs(30));
    let held = given(call).await;
    let delayed = FailTaskRequest { retry_delay: seconds(10), ..failure(&held) };
    client.fail_task(delayed).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    server.clock.advance(Duration::from_secs(10));
    assert_eq!(given(call).await.attempt_number, 2);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_when_its_run_goes_on() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    add_tasks(client, &run.id, vec![draft("t"); 2]).await;
    let pause = || PauseRunRequest { run_id: run.id.clone(), ..unset() };
    client.pause_run(pause()).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    client.resume_run(ResumeRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    given(call).await;
    client.pause_run(pause()).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    set_status(client, &run.id, RunStatus::Running).await;
    given(call).await;
}

/// Also by one of another run that has the same repository, and one completion frees several.
#[tokio::test]
async fn waiting_claims_are_woken_by_freed_paths() {
    let server = TestServer::start().await;
    let (client, run, other) = (&server.client, new_run(&server.client).await, new_run(&server.client).await);
    let with = |path: &str| TaskDraft { allowed_paths: vec![path.into()], ..draft(path) };
    add_task(client, &run.id, with("src")).await;
    let held = claim(client, &run.id).await.unwrap();
    add_tasks(client, &other.id, vec![with("src/a"), with("src/b"), with("src/c")]).await;
    let calls: Vec<_> = (0..3)
        .map(|at| {
            let (client, request) = (client.clone(), waiting(&other.id, &format!("{at}")));
            tokio::spawn(async move { client.claim_task(request).await.unwrap().claim })
        })
        .collect();
    server.until_claims_wait(3).await;
    complete(client, &held).await;
    let mut titles = Vec::new();
    for call in calls {
        titles.push(soon(call).await.unwrap().unwrap().task.unwrap().title);
    }
    titles.sort();
    assert_eq!(titles, ["src/a", "src/b", "src/c"]);
}

/// Only who can have it: the others are looked past, whoever came first.
#[tokio::test]
async fn a_task_wakes_a_waiting_agent_that_has_the_capabilities() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let plain = wait_for_task(&server, waiting(&run.id, "plain")).await;
    let request = ClaimTaskRequest { capabilities: vec!["gpu".into()], ..waiting("", "special") };
    let special = {
        let client = client.clone();
        tokio::spawn(async move { Ok(client.claim_task(request).await?.claim) })
    };
    server.until_claims_wait(2).await;
    let required_capabilities = vec!["gpu".to_owned()];
    add_task(client, &run.id, TaskDraft { required_capabilities, ..draft("t") }).await;
    assert_eq!(given(special).await.task.unwrap().agent_id.as_deref(), Some("special"));
    add_task(client, &run.id, draft("u")).await;
    assert_eq!(given(plain).await.task.unwrap().title, "u");
}

#[tokio::test]
async fn every_waiting_claim_gets_a_task_and_no_task_goes_twice() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let calls: Vec<_> = (0..20)
        .map(|at| {
            let (client, request) = (server.client.clone(), waiting(&run.id, &format!("{at}")));
            tokio::spawn(async move { client.claim_task(request).await.unwrap().claim })
        })
        .collect();
    server.until_claims_wait(20).await;
    add_tasks(&server.client, &run.id, vec![draft("t"); 20]).await;
    let mut taken = std::collections::BTreeSet::new();
    for call in calls {
        taken.insert(task_id(&soon(call).await.unwrap().expect("a task")));
    }
    assert_eq!(taken.len(), 20);
}

/// One change frees several tasks: as many of those that wait are woken.
#[tokio::test]
async fn a_change_wakes_as_many_as_it_freed_tasks() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let three = || async {
        let calls: Vec<_> = (0..3)
            .map(|at| {
                let (client, request) = (client.clone(), waiting(&run.id, &format!("{at}")));
                tokio::spawn(async move { client.claim_task(request).await.unwrap().claim })
            })
            .collect();
        server.until_claims_wait(3).await;
        calls
    };
    add_tasks(client, &run.id, vec![keyed("a", &[]), keyed("b", &["a"]), keyed("c", &["a"]), keyed("d", &["a"])]).await;
    let first = claim(client, &run.id).await.unwrap();
    let calls = three().await;
    complete(client, &first).await;
    finish_all(client, calls).await;
    client.pause_run(PauseRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    add_tasks(client, &run.id, vec![draft("t"); 3]).await;
    let calls = three().await;
    client.resume_run(ResumeRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    finish_all(client, calls).await;
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_800_000_007, nanos: 0 });
    add_tasks(client, &run.id, vec![TaskDraft { not_before_time, ..draft("t") }; 3]).await;
    let calls = three().await;
    server.clock.advance(Duration::from_secs(7));
    finish_all(client, calls).await;
}

async fn finish_all(client: &Client, calls: Vec<JoinHandle<Option<Claim>>>) {
    for call in calls {
        complete(client, &soon(call).await.unwrap().expect("a task")).await;
    }
}

/// The caller's connection broke, and it asks again while its first call still waits: one claim, for both.
#[tokio::test]
async fn the_same_claim_waiting_twice_is_one_claim_for_both() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = ClaimTaskRequest { request_id: "id".into(), ..waiting(&run.id, "agent") };
    let [first, second] = [request.clone(), request].map(|request| {
        let client = server.client.clone();
        tokio::spawn(async move { client.claim_task(request).await.unwrap().claim })
    });
    server.until_claims_wait(2).await;
    let other = {
        let (client, request) = (server.client.clone(), waiting(&run.id, "other"));
        tokio::spawn(async move { client.claim_task(request).await.unwrap().claim })
    };
    server.until_claims_wait(3).await;
    add_tasks(&server.client, &run.id, vec![draft("a"), draft("b")]).await;
    let first = soon(first).await.unwrap().expect("a task");
    assert_eq!(soon(second).await.unwrap().as_ref(), Some(&first));
    // Both may have been woken: the second task is for who waits behind them.
    assert_ne!(task_id(&soon(other).await.unwrap().expect("a task")), task_id(&first));
}

#[tokio::test]
async fn the_end_of_the_wait_is_an_empty_answer() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, ClaimTaskRequest { wait: seconds(7), ..waiting(&run.id, "agent") }).await;
    let longer = {
        let (client, request) = (server.client.clone(), ClaimTaskRequest { wait: seconds(9), ..waiting(&run.id, "b") });
        tokio::spawn(async move { client.claim_task(request).await })
    };
    server.until_claims_wait(2).await;
    server.clock.advance(Duration::from_secs(7));
    assert_eq!(soon(call).await.unwrap().unwrap(), None);
    server.until_claims_wait(1).await;
    server.clock.advance(Duration::from_secs(2));
    assert_eq!(soon(longer).await.unwrap().unwrap().claim, None);
    let call = wait_for_task(&server, ClaimTaskRequest { wait: seconds(9_999), ..waiting(&run.id, "agent") }).await;
    server.clock.advance(Duration::from_secs(300));
    assert_eq!(soon(call).await.unwrap().unwrap(), None, "no wait is longer than 5 min");
}

#[tokio::test]
async fn a_waiting_claim_of_a_run_that_ends_is_run_ended() {
    let server = TestServer::start().await;
    let client = &server.client;
    let cancel =
        |run_id: String| async { drop(client.cancel_run(CancelRunRequest { run_id, ..unset() }).await.unwrap()) };
    let run = new_run(client).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    cancel(run.id).await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::RunEnded);
    let run = new_run(client).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    set_status(client, &run.id, RunStatus::Completed).await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::RunEnded);
}

#[tokio::test]
async fn draining_ends_a_wait() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    soon(server.stop()).await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::Draining);
}

/// The caller hangs up; what comes then is for others.
#[tokio::test]
async fn a_caller_gone_before_its_claim_leaves_no_lease_behind() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, waiting(&run.id, "gone")).await;
    call.abort();
    server.until_claims_wait(0).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    let held = claim(&server.client, &run.id).await.unwrap();
    assert_eq!((task_id(&held), held.attempt_number), (task.id, 1));
}

#[tokio::test]
async fn a_repeated_waiting_claim_is_the_same_claim() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = ClaimTaskRequest { request_id: "id".into(), ..waiting(&run.id, "agent") };
    let call = wait_for_task(&server, request.clone()).await;
    add_tasks(&server.client, &run.id, vec![draft("t"); 2]).await;
    let first = given(call).await;
    // How long one is ready to wait is no part of what one asks for.
    let again = ClaimTaskRequest { wait: None, ..request };
    assert_eq!(server.client.claim_task(again).await.unwrap().claim, Some(first));
}

async fn unclaimable(client: &Client, request: ClaimTaskRequest) -> Unclaimable {
    let answer = client.claim_task(request).await.unwrap();
    assert_eq!(answer.claim, None);
    answer.unclaimable.unwrap()
}

#[tokio::test]
async fn an_empty_answer_counts_what_is_in_the_way() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    assert_eq!(unclaimable(client, claim_request(&run.id, "a")).await, unset());
    let paths = || vec!["src".to_owned()];
    add_task(client, &run.id, TaskDraft { allowed_paths: paths(), key: "held".into(), ..draft("held") }).await;
    claim(client, &run.id).await.unwrap();
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
    let tasks = vec![
        TaskDraft { allowed_paths: paths(), ..draft("paths") },
        TaskDraft { not_before_time, required_capabilities: vec!["gpu".into()], ..keyed("late", &[]) },
        keyed("b", &["late"]),
        TaskDraft { allowed_paths: paths(), ..keyed("c", &["b", "late"]) },
    ];
    add_tasks(client, &run.id, tasks).await;
    let expected = Unclaimable {
        pending: 4,
        waiting_on_dependency: 2,
        waiting_on_time: 1,
        waiting_on_paths: 2,
        missing_capability: 1,
        run_paused: 0,
    };
    assert_eq!(unclaimable(client, claim_request(&run.id, "a")).await, expected);
    assert_eq!(unclaimable(client, claim_request("", "a")).await, expected);
    client.pause_run(PauseRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    let paused = Unclaimable { run_paused: 4, missing_capability: 0, ..expected };
    let able = ClaimTaskRequest { capabilities: vec!["gpu".into()], ..claim_request(&run.id, "a") };
    assert_eq!(unclaimable(client, able).await, paused);
    assert_eq!(client.claim_task(claim_request("", "a")).await.unwrap().unclaimable.unwrap().pending, 4);
}

#[tokio::test]
async fn an_empty_answer_looks_at_a_thousand_tasks() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let first = add_task(client, &run.id, draft("first")).await;
    claim(client, &run.id).await.unwrap();
    for _ in 0..2 {
        let draft = TaskDraft { depends_on: vec![first.id.clone()], ..draft("t") };
        add_tasks(client, &run.id, vec![draft; 600]).await;
    }
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
    add_tasks(client, &run.id, vec![TaskDraft { not_before_time, priority: 1, ..draft("urgent") }; 100]).await;
    for run_id in [run.id.as_str(), ""] {
        let counted = unclaimable(client, claim_request(run_id, "a")).await;
        assert_eq!((counted.pending, counted.waiting_on_time, counted.waiting_on_dependency), (1_000, 100, 900));
    }
}

/// Hundreds of tasks behind one held path set are passed over as one.
#[tokio::test]
async fn what_is_in_the_way_is_passed_over_by_sets() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let with = |path: &str, priority| TaskDraft { allowed_paths: vec![path.into()], priority, ..draft(path) };
    add_tasks(client, &run.id, vec![with("src", 9); 500]).await;
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
    let needs = || vec!["gpu".to_owned()];
    let nobodys = vec![
        TaskDraft { not_before_time, ..with("late", 8) },
        TaskDraft { not_before_time, priority: 8, ..draft("late, without paths") },
        TaskDraft { required_capabilities: needs(), ..with("special", 8) },
        TaskDraft { required_capabilities: needs(), priority: 8, ..draft("special, without paths") },
    ];
    add_tasks(client, &run.id, nobodys).await;
    add_tasks(client, &run.id, vec![with("doc", 1), with("lib", 2), draft("plain"), with("lib", 2)]).await;
    let mut order = Vec::new();
    while let Some(claim) = claim(client, &run.id).await {
        order.push(claim.task.unwrap().title);
    }
    assert_eq!(order, ["src", "lib", "doc", "plain"]);
}
