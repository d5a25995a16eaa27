//! C2: claims that wait for a task.

use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason};
use runhub_server::store::JobOptions;
use tokio::task::JoinHandle;

use crate::support::calls::*;
use crate::support::{TestServer, block_writer, soon, until};

/// Returns a claim that waits for minutes of a clock that stands still, so that its timeout never answers it.
fn waiting(run_id: &str, agent_id: &str) -> ClaimTaskRequest {
    ClaimTaskRequest { wait: seconds(200), ..claim_request(run_id, agent_id) }
}

type Waiting = JoinHandle<Result<Option<Claim>, Error>>;

/// Sends the claim and returns once the server holds it.
async fn wait_for_task(server: &TestServer, request: ClaimTaskRequest) -> Waiting {
    let client = server.client.clone();
    let call = tokio::spawn(async move { Ok(client.claim_task(request).await?.claim) });
    server.until_claims_wait(1).await;
    call
}

async fn claim_of(call: Waiting) -> Claim {
    soon(call).await.unwrap().unwrap().expect("a task")
}

#[tokio::test]
async fn waiting_claim_is_woken_by_new_tasks() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    assert_eq!(task_id(&claim_of(call).await), task.id);
}

#[tokio::test]
async fn waiting_claim_is_woken_by_a_completed_dependency() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![keyed("a", &[]), keyed("b", &["a"])]).await;
    let first = claim(&server.client, &run.id).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    complete(&server.client, &first).await;
    assert_eq!(claim_of(call).await.task.unwrap().title, "b");
}

/// Covers every way in which a leased task becomes pending again.
#[tokio::test]
async fn waiting_claim_is_woken_by_a_task_returned_to_the_queue() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
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
        let taken = claim_of(call).await;
        assert_eq!(taken.task.as_ref().unwrap().agent_id.as_deref(), Some("second"), "{cause}");
        release(client, &taken).await.unwrap();
    }
}

#[tokio::test]
async fn waiting_claim_is_woken_at_the_not_before_time() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_800_000_030, nanos: 0 });
    add_task(client, &run.id, TaskDraft { not_before_time, ..draft("t") }).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    server.clock.advance(Duration::from_secs(30));
    let held = claim_of(call).await;
    let delayed = FailTaskRequest { retry_delay: seconds(10), ..failure(&held) };
    client.fail_task(delayed).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    server.clock.advance(Duration::from_secs(10));
    assert_eq!(claim_of(call).await.attempt_number, 2);
}

#[tokio::test]
async fn waiting_claim_is_woken_by_a_resumed_run() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![draft("t"); 2]).await;
    let pause = || PauseRunRequest { run_id: run.id.clone(), ..unset() };
    client.pause_run(pause()).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    client.resume_run(ResumeRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    claim_of(call).await;
    client.pause_run(pause()).await.unwrap();
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    set_status(client, &run.id, RunStatus::Running).await;
    claim_of(call).await;
}

/// The paths may be held by another run of the same repository, and one completion may free several of them.
#[tokio::test]
async fn waiting_claims_are_woken_by_freed_paths() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let other = new_run(&server.client).await;
    let with = |path: &str| TaskDraft { allowed_paths: vec![path.into()], ..draft(path) };
    add_task(client, &run.id, with("src")).await;
    let held = claim(client, &run.id).await.unwrap();
    add_tasks(client, &other.id, vec![with("src/a"), with("src/b"), with("src/c")]).await;
    let calls: Vec<_> = (0..3)
        .map(|at| {
            let client = client.clone();
            let request = waiting(&other.id, &format!("{at}"));
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

/// The task goes to the waiting agent that can claim it, although another agent has waited longer.
#[tokio::test]
async fn new_task_wakes_an_agent_with_its_capabilities() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let plain = wait_for_task(&server, waiting(&run.id, "plain")).await;
    let request = ClaimTaskRequest { capabilities: vec!["gpu".into()], ..waiting("", "special") };
    let special = {
        let client = client.clone();
        tokio::spawn(async move { Ok(client.claim_task(request).await?.claim) })
    };
    server.until_claims_wait(2).await;
    let required_capabilities = vec!["gpu".to_owned()];
    add_task(client, &run.id, TaskDraft { required_capabilities, ..draft("t") }).await;
    assert_eq!(claim_of(special).await.task.unwrap().agent_id.as_deref(), Some("special"));
    add_task(client, &run.id, draft("u")).await;
    assert_eq!(claim_of(plain).await.task.unwrap().title, "u");
}

#[tokio::test]
async fn every_waiting_claim_gets_a_different_task() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let calls: Vec<_> = (0..20)
        .map(|at| {
            let client = server.client.clone();
            let request = waiting(&run.id, &format!("{at}"));
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

/// A change that frees several tasks wakes as many waiting claims.
#[tokio::test]
async fn change_wakes_one_claim_per_freed_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let three = || async {
        let calls: Vec<_> = (0..3)
            .map(|at| {
                let client = client.clone();
                let request = waiting(&run.id, &format!("{at}"));
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

/// The caller's connection breaks, and it repeats the claim while its first call still waits. Both calls get one claim.
#[tokio::test]
async fn duplicate_waiting_claims_get_the_same_claim() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = ClaimTaskRequest { request_id: "id".into(), ..waiting(&run.id, "agent") };
    let [first, second] = [request.clone(), request].map(|request| {
        let client = server.client.clone();
        tokio::spawn(async move { client.claim_task(request).await.unwrap().claim })
    });
    server.until_claims_wait(2).await;
    let other = {
        let client = server.client.clone();
        let request = waiting(&run.id, "other");
        tokio::spawn(async move { client.claim_task(request).await.unwrap().claim })
    };
    server.until_claims_wait(3).await;
    add_tasks(&server.client, &run.id, vec![draft("a"), draft("b")]).await;
    let first = soon(first).await.unwrap().expect("a task");
    assert_eq!(soon(second).await.unwrap().as_ref(), Some(&first));
    // Both duplicates may have been woken. The second task must go to the claim that waits behind them.
    assert_ne!(task_id(&soon(other).await.unwrap().expect("a task")), task_id(&first));
}

#[tokio::test]
async fn timeout_of_the_wait_returns_an_empty_answer() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, ClaimTaskRequest { wait: seconds(7), ..waiting(&run.id, "agent") }).await;
    let longer = {
        let client = server.client.clone();
        let request = ClaimTaskRequest { wait: seconds(9), ..waiting(&run.id, "b") };
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
async fn waiting_claim_gets_run_ended_when_its_run_ends() {
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
async fn draining_ends_a_waiting_claim() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, waiting(&run.id, "agent")).await;
    soon(server.stop()).await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::Draining);
}

/// The caller disconnects while its claim waits. The next task goes to another agent.
#[tokio::test]
async fn disconnected_caller_gets_no_lease() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, waiting(&run.id, "gone")).await;
    call.abort();
    server.until_claims_wait(0).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    let held = claim(&server.client, &run.id).await.unwrap();
    assert_eq!((task_id(&held), held.attempt_number), (task.id, 1));
}

/// The caller disconnects after its claim was woken, while the claim's transaction waits in the writer's queue.
#[tokio::test]
async fn caller_that_disconnects_just_before_its_claim_runs_gets_no_lease() {
    // The writer takes no further call into a group that has more than 1 MiB of requests.
    let alone = JobOptions { bytes: 2 * 1024 * 1024, ..JobOptions::default() };
    let large = TaskDraft { acceptance_criteria: vec!["c".repeat(60 * 1024); 20], ..draft("t") };
    let server = TestServer::start().await;
    let store = server.store();
    let run = new_run(&server.client).await;
    let call = wait_for_task(&server, waiting(&run.id, "gone")).await;
    let (release, held) = block_writer(server.store(), JobOptions::default()).await;
    let adding = tokio::spawn({
        let (client, run_id) = (server.client.clone(), run.id.clone());
        async move { add_tasks(&client, &run_id, vec![large]).await }
    });
    until(|| async { store.queued_calls() == 1 }).await;
    let blocking = tokio::spawn(block_writer(server.store(), alone));
    until(|| async { store.queued_calls() == 2 }).await;
    release.send(()).unwrap();
    let (release, held_again) = blocking.await.unwrap();
    let task = adding.await.unwrap().remove(0);
    until(|| async { store.queued_calls() == 1 }).await;
    call.abort();
    server.until_claims_wait(0).await;
    release.send(()).unwrap();
    held.await.unwrap();
    held_again.await.unwrap();
    let claim = claim(&server.client, &run.id).await.unwrap();
    assert_eq!((task_id(&claim), claim.attempt_number), (task.id, 1));
}

#[tokio::test]
async fn repeated_waiting_claim_returns_the_same_claim() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let request = ClaimTaskRequest { request_id: "id".into(), ..waiting(&run.id, "agent") };
    let call = wait_for_task(&server, request.clone()).await;
    add_tasks(&server.client, &run.id, vec![draft("t"); 2]).await;
    let first = claim_of(call).await;
    // `wait` is not part of the request's content.
    let again = ClaimTaskRequest { wait: None, ..request };
    assert_eq!(server.client.claim_task(again).await.unwrap().claim, Some(first));
}
