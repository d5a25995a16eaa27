//! Every mutating RPC: a repeated call gets the first answer and changes nothing.

#![allow(clippy::needless_update)] // Some requests have no field that is left unset.

use std::collections::BTreeSet;

use runhub_client::Client;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;
use crate::support::dump::dump;

/// A run to make calls about, and the requests that were repeated.
struct World {
    server: TestServer,
    run: String,
    tasks: Vec<Task>,
    seen: BTreeSet<&'static str>,
}

impl World {
    async fn make() -> Self {
        let server = TestServer::start().await;
        let run = new_run(&server.client).await.id;
        let tasks = add_tasks(&server.client, &run, vec![draft("t"); 8]).await;
        Self { server, run, tasks, seen: BTreeSet::new() }
    }

    fn task(&self, at: usize) -> String {
        self.tasks[at].id.clone()
    }

    /// Makes a call twice. Checks that both calls get the same answer, and that the second changes nothing.
    async fn check_repeated<Q, A>(&mut self, name: &'static str, request: Q, call: impl AsyncFn(Client, Q) -> A)
    where
        Q: Clone,
        A: PartialEq + std::fmt::Debug,
    {
        let client = &self.server.client;
        let first = call(client.clone(), request.clone()).await;
        let after = dump(self.server.db());
        assert_eq!(call(client.clone(), request).await, first, "{name}");
        assert_eq!(dump(self.server.db()), after, "{name}");
        self.seen.insert(name);
    }
}

macro_rules! twice {
    ($world:expr, $rpc:ident, $request:ident { $($name:ident: $value:expr),* }) => {{
        let request = $request { $($name: $value,)* request_id: "id".into(), ..unset() };
        let call = async |client: Client, request| client.$rpc(request).await.unwrap();
        $world.check_repeated(stringify!($request), request, call).await;
    }};
}

#[tokio::test]
async fn every_mutating_rpc_can_be_repeated() {
    let mut world = World::make().await;
    repeat_runs(&mut world).await;
    repeat_work(&mut world).await;
    repeat_plans(&mut world).await;
    repeat_approvals(&mut world).await;
    repeat_records(&mut world).await;
    repeat_run_control(&mut world).await;
    let pool = prost_reflect::DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).unwrap();
    let mutating = pool.all_messages().filter(|message| message.get_field_by_name("request_id").is_some());
    let mutating: BTreeSet<String> = mutating.map(|message| message.name().to_owned()).collect();
    assert_eq!(mutating, world.seen.iter().map(|name| (*name).to_owned()).collect());
}

async fn repeat_runs(world: &mut World) {
    let run = world.run.clone();
    twice!(world, create_run, CreateRunRequest { goal: "g".into(), repo_path: "r".into() });
    twice!(world, update_run, UpdateRunRequest { run_id: run.clone(), summary: Some("s".into()) });
    twice!(world, increment_cycle, IncrementCycleRequest { run_id: run.clone() });
    twice!(world, increment_replan, IncrementReplanRequest { run_id: run.clone() });
}

async fn repeat_work(world: &mut World) {
    let run = world.run.clone();
    let held = claim(&world.server.client, &run).await.unwrap();
    twice!(world, fail_task, FailTaskRequest { task_id: task_id(&held), lease_token: held.lease_token.clone() });
    let held = claim(&world.server.client, &run).await.unwrap();
    twice!(world, release_task, ReleaseTaskRequest { task_id: task_id(&held), lease_token: held.lease_token.clone() });
    twice!(world, claim_task, ClaimTaskRequest { run_id: run.clone(), agent_id: "a".into() });
    twice!(world, requeue_in_progress_tasks, RequeueInProgressTasksRequest { run_id: run.clone() });
    twice!(world, complete_task, CompleteTaskRequest { task_id: world.task(1) });
    twice!(world, block_task, BlockTaskRequest { task_id: world.task(2) });
    twice!(world, abandon_task, AbandonTaskRequest { task_id: world.task(3) });
    twice!(world, requeue_task, RequeueTaskRequest { task_id: world.task(3) });
    twice!(
        world,
        record_task_attempt,
        RecordTaskAttemptRequest { run_id: run.clone(), task_id: world.task(4), status: 3 }
    );
}

async fn repeat_plans(world: &mut World) {
    let run = world.run.clone();
    twice!(world, add_tasks, AddTasksRequest { run_id: run.clone(), tasks: vec![draft("more")] });
    twice!(world, replace_pending_tasks, ReplacePendingTasksRequest { run_id: run, tasks: vec![draft("new")] });
}

async fn repeat_approvals(world: &mut World) {
    let run = world.run.clone();
    twice!(world, record_approval, RecordApprovalRequest { run_id: run.clone(), source: "me".into(), verdict: 2 });
    twice!(world, request_approval, RequestApprovalRequest { run_id: run.clone(), title: "t".into() });
    let approval = request_approval(&world.server.client, &run, "d").await.id;
    let source = "me".to_owned();
    let id = || approval.clone();
    twice!(world, decide_approval, DecideApprovalRequest { approval_id: id(), source: source.clone(), verdict: 2 });
    twice!(world, consume_approval, ConsumeApprovalRequest { approval_id: id(), subject_digest: "d".into() });
    let approval = request_approval(&world.server.client, &run, "d").await.id;
    twice!(world, cancel_approval, CancelApprovalRequest { approval_id: approval.clone() });
}

async fn repeat_records(world: &mut World) {
    let run = world.run.clone();
    let state = Some(AgentState { run_id: run.clone(), role: "r".into(), ..unset() });
    twice!(world, save_agent_state, SaveAgentStateRequest { state: state.clone() });
    twice!(world, append_events, AppendEventsRequest { run_id: run.clone(), events: vec![event("x")] });
    twice!(world, create_checkpoint, CreateCheckpointRequest { run_id: run.clone(), status: 2 });
    let kind = "k".to_owned();
    let path = "p".to_owned();
    twice!(world, create_artifact, CreateArtifactRequest { run_id: run, kind: kind.clone(), path: path.clone() });
}

async fn repeat_run_control(world: &mut World) {
    let run = world.run.clone();
    twice!(world, pause_run, PauseRunRequest { run_id: run.clone() });
    twice!(world, resume_run, ResumeRunRequest { run_id: run.clone() });
    twice!(world, cancel_run, CancelRunRequest { run_id: run.clone() });
    twice!(world, delete_run, DeleteRunRequest { run_id: run });
}
