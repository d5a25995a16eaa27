//! Clients that write until their server is killed, and remember what the server answered.

use runhub_client::v1::*;
use runhub_client::{Client, Error};
use tokio::task::JoinSet;

use crate::support::calls::*;

const SMALL_WRITERS: usize = 4;
/// Size of the message of a large event. Large events fill the write-ahead log, so that checkpoints run.
const LARGE: usize = 24 * 1024;

/// A request with a request_id.
#[derive(Debug, Clone)]
pub enum Request {
    CreateRun(CreateRunRequest),
    Append(AppendEventsRequest),
    AddTasks(AddTasksRequest),
    Claim(ClaimTaskRequest),
    Complete(CompleteTaskRequest),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Created(Box<Run>),
    Appended(AppendEventsResponse),
    Added(AddTasksResponse),
    Claimed(Box<Claim>),
    Completed(Box<Task>),
}

impl Request {
    pub async fn send(&self, client: &Client) -> Result<Answer, Error> {
        Ok(match self.clone() {
            Self::CreateRun(request) => {
                let run = client.create_run(request).await?.run;
                Answer::Created(Box::new(run.unwrap()))
            }
            Self::Append(request) => Answer::Appended(client.append_events(request).await?),
            Self::AddTasks(request) => Answer::Added(client.add_tasks(request).await?),
            Self::Claim(request) => {
                let claim = client.claim_task(request).await?.claim;
                Answer::Claimed(Box::new(claim.expect("the client has added a task")))
            }
            Self::Complete(request) => {
                let task = client.complete_task(request).await?.task;
                Answer::Completed(Box::new(task.unwrap()))
            }
        })
    }
}

/// A request, and its answer unless the server was killed first.
#[derive(Debug, Clone)]
pub struct Call {
    pub request: Request,
    pub answer: Option<Answer>,
}

/// The kinds of clients. Each client has a name that is unique in the database.
#[derive(Debug, Clone)]
enum Role {
    /// Appends events, each with a message of a number of bytes.
    Writer { bytes: usize },
    /// Adds a task, claims it and completes it.
    Worker,
    /// Creates runs.
    Planner,
}

/// Starts the clients of one round. Each client returns its calls when the server is killed. Only the last of them has
/// no answer.
pub async fn start(connect: impl AsyncFn() -> Client, run_id: &str, round: usize) -> JoinSet<Vec<Call>> {
    let mut roles = vec![Role::Writer { bytes: 10 }; SMALL_WRITERS];
    roles.extend([Role::Writer { bytes: LARGE }, Role::Worker, Role::Planner]);
    let mut clients = JoinSet::new();
    for (at, role) in roles.into_iter().enumerate() {
        let client = connect().await;
        let (run_id, name) = (run_id.to_owned(), format!("{round}.{at}"));
        clients.spawn(async move { call_until_killed(&client, |last, at| role.next(&run_id, &name, at, last)).await });
    }
    clients
}

async fn call_until_killed(client: &Client, next: impl Fn(Option<&Answer>, usize) -> Request) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    loop {
        let request = next(calls.last().and_then(|call| call.answer.as_ref()), calls.len());
        let answer = request.send(client).await.ok();
        let is_killed = answer.is_none();
        calls.push(Call { request, answer });
        if is_killed {
            return calls;
        }
    }
}

impl Role {
    /// Returns the request after `at` requests, the last of which got the answer `last`.
    fn next(&self, run_id: &str, name: &str, at: usize, last: Option<&Answer>) -> Request {
        let (run_id, request_id) = (run_id.to_owned(), format!("{name}.{at}"));
        match (self, last) {
            (Self::Writer { bytes }, _) => {
                let events = vec![EventDraft { message: "x".repeat(*bytes), ..event(&request_id) }];
                Request::Append(AppendEventsRequest { run_id, events, request_id })
            }
            (Self::Planner, _) => create_run(&request_id),
            (Self::Worker, Some(Answer::Added(_))) => {
                Request::Claim(ClaimTaskRequest { request_id, ..claim_request(&run_id, name) })
            }
            (Self::Worker, Some(Answer::Claimed(claim))) => {
                Request::Complete(CompleteTaskRequest { request_id, ..completion(claim) })
            }
            (Self::Worker, _) => Request::AddTasks(AddTasksRequest { run_id, tasks: vec![draft("t")], request_id }),
        }
    }
}

pub fn create_run(request_id: &str) -> Request {
    let (goal, repo_path) = (request_id.to_owned(), "/repo".to_owned());
    Request::CreateRun(CreateRunRequest { goal, repo_path, request_id: request_id.to_owned(), ..unset() })
}
