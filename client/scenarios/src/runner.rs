//! This module runs scenarios with the Rust client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use runhub_client::v1::{ClaimTaskRequest, CompleteTaskRequest};
use runhub_client::{Client, Error, LeaseLost, Reason};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::background::{BackgroundTask, CallResult, Collector, cause_name, keep_lease};
use crate::json;
use crate::matching::{Variables, find_difference, substitute, value_at};
use crate::scenario::{ExpectedError, Scenario, Step};
use crate::test_server::TestServer;

/// The time limit of a step.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// The time limit of a step that expects an error or a lost lease. A longer step shows that the client has retried a
/// refused call, or that the lease was lost for another reason.
const SHORT_STEP_LIMIT: Duration = Duration::from_secs(10);

/// The server against which a scenario runs.
pub struct TargetServer {
    /// The address to which clients connect.
    pub address: String,
    /// The path of the `runhub` binary for the verb `cli`.
    pub binary: PathBuf,
    /// The address of the server itself, for the verb `cli`. This address bypasses the test server's proxy.
    pub direct_address: String,
    /// The test server that controls the server. If the server runs without a test server, the value is None. The verb
    /// `server` then fails.
    pub test_server: Option<Mutex<TestServer>>,
}

impl From<TestServer> for TargetServer {
    fn from(test_server: TestServer) -> Self {
        Self {
            address: test_server.address(),
            binary: test_server.binary().to_owned(),
            direct_address: test_server.direct_address(),
            test_server: Some(Mutex::new(test_server)),
        }
    }
}

/// Runs the steps of the scenario's participant with this name. If `participant` is None, runs the steps of all
/// participants.
///
/// # Errors
/// Fails if the scenario has no participant with this name, or if the result of a step differs from the expected
/// result.
pub async fn run_scenario(scenario: &Scenario, participant: Option<&str>, server: &TargetServer) -> Result<()> {
    let participants = &scenario.participants;
    ensure!(
        participant.is_none_or(|name| participants.contains_key(name)),
        "the scenario has no participant {participant:?}: pass an existing participant with --participant"
    );
    let selected = participants.iter().filter(|(name, _)| participant.is_none_or(|wanted| wanted == name.as_str()));
    try_join_all(selected.map(|(name, steps)| run_participant(name, steps, server))).await?;
    Ok(())
}

async fn run_participant(name: &str, steps: &[Value], server: &TargetServer) -> Result<()> {
    let client = Client::connect(&server.address).await?;
    let mut runner = ParticipantRunner {
        client,
        server,
        variables: Variables::new(),
        calls: BTreeMap::new(),
        leases: BTreeMap::new(),
        collectors: BTreeMap::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        let is_short = step.get("refused").or(step.get("lost")).is_some();
        let limit = if is_short { SHORT_STEP_LIMIT } else { STEP_LIMIT };
        let outcome = tokio::time::timeout(limit, runner.run_step(step)).await;
        let outcome = outcome
            .with_context(|| {
                format!("the step took longer than {limit:?}: check the scenario's steps before this step")
            })
            .flatten();
        outcome.with_context(|| format!("participant {name}, step {}: {step}", number + 1))?;
    }
    Ok(())
}

/// Runs the steps of one participant, and stores the variables, the background calls, the leases and the subscriptions
/// of the participant.
struct ParticipantRunner<'a> {
    client: Client,
    server: &'a TargetServer,
    variables: Variables,
    calls: BTreeMap<String, BackgroundTask<CallResult>>,
    leases: BTreeMap<String, BackgroundTask<Option<LeaseLost>>>,
    collectors: BTreeMap<String, Collector>,
}

impl ParticipantRunner<'_> {
    async fn run_step(&mut self, step: &Value) -> Result<()> {
        let step: Step = serde_json::from_value(substitute(step, &self.variables)?)?;
        let answer = match &step {
            Step { call: Some(rpc), .. } => return self.call(rpc, &step).await,
            Step { answer: Some(name), .. } => {
                let call = self.calls.remove(name).with_context(|| {
                    format!("there is no background call {name}: add a step with `call` and `as` first")
                })?;
                return self.check_response(call.join().await?, &step);
            }
            Step { server: Some(command), .. } => {
                let test_server = self
                    .server
                    .test_server
                    .as_ref()
                    .context("the verb `server` requires a test server: run the scenario without --server")?;
                test_server.lock().await.execute(command).await?;
                Value::Null
            }
            Step { keep_lease: Some(claim), .. } => {
                let lease = keep_lease(&self.client, &json::to_message("Claim", claim)?);
                self.leases.insert(step_name(&step)?, lease);
                Value::Null
            }
            Step { lost: Some(name), .. } => self.wait_until_lost(name, &step).await?,
            Step { stop_keeper: Some(name), .. } => self.stop_keeper(name)?,
            Step { work: Some(request), .. } => {
                json!({ "done": self.work(&json::to_message("ClaimTaskRequest", request)?).await? })
            }
            Step { subscribe: Some(request), .. } => {
                let collector = Collector::start(&self.client, json::to_message("SubscribeEventsRequest", request)?);
                self.collectors.insert(step_name(&step)?, collector);
                Value::Null
            }
            Step { seen: Some(name), .. } => self.wait_for_message(name, &step).await?,
            Step { cli: Some(args), .. } => self.run_cli(args).await?,
            _ => bail!("the step has no verb: add a verb from the table in client/scenarios/README.md"),
        };
        self.check_response(Ok(answer), &step)
    }

    async fn call(&mut self, rpc: &str, step: &Step) -> Result<()> {
        let method = json::find_method(rpc)?;
        let request = json::encode(method.input(), &step.with)?;
        let client = self.client.clone();
        let call = async move {
            let answer = client.call_encoded(method.name(), &request).await?;
            json::decode(method.output(), &answer)
                .map_err(|error| Error::Lost { code: tonic::Code::Internal, message: error.to_string() })
        };
        match &step.name {
            Some(name) => {
                self.calls.insert(name.clone(), BackgroundTask::start(call));
                Ok(())
            }
            None => self.check_response(call.await, step),
        }
    }

    /// Compares the response with the expected response, and saves the step's variables. Fails if the response differs
    /// from the expected response.
    fn check_response(&mut self, result: CallResult, step: &Step) -> Result<()> {
        let answer = match (result, &step.refused) {
            (Ok(answer), None) => answer,
            (Err(error), Some(refused)) => return check_refusal(&error, refused),
            (Ok(answer), Some(refused)) => bail!(
                "the call must fail with {}, but returned {answer}: check the scenario's steps before this step",
                refused.reason
            ),
            (Err(error), None) => return Err(error.into()),
        };
        if let Some(difference) = step.expect.as_ref().and_then(|expected| find_difference(expected, Some(&answer))) {
            bail!(
                "the answer {answer} differs from the step's `expect` ({difference}): \
                 check the scenario's steps before this step"
            );
        }
        for (name, path) in &step.save {
            let value = value_at(&answer, path)
                .with_context(|| format!("the answer {answer} has no value at the path {path}: correct `save`"))?;
            self.variables.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    async fn wait_until_lost(&mut self, name: &str, step: &Step) -> Result<Value> {
        let lease = self
            .leases
            .remove(name)
            .with_context(|| format!("there is no held lease {name}: add a step with `keep_lease` and `as` first"))?;
        let lost = lease.join().await?.context("the attempt ended, but the lease was not lost: report the bug")?;
        ensure!(
            step.cause.as_deref() == Some(cause_name(&lost)),
            "the lease {name} must be lost with the cause {:?}, but was lost with {lost:?}: \
             check the scenario's steps before this step",
            step.cause
        );
        Ok(Value::Null)
    }

    fn stop_keeper(&mut self, name: &str) -> Result<Value> {
        let lease = self
            .leases
            .remove(name)
            .with_context(|| format!("there is no held lease {name}: add a step with `keep_lease` and `as` first"))?;
        ensure!(
            !lease.has_ended(),
            "the lease {name} was lost before this step: check the scenario's steps before this step"
        );
        Ok(Value::Null)
    }

    /// Claims and completes tasks as one agent until the run has ended or has no pending task, and returns the number
    /// of completed tasks.
    async fn work(&self, request: &ClaimTaskRequest) -> Result<usize> {
        let mut done = 0;
        loop {
            let answer = match self.client.claim_task(request.clone()).await {
                Err(error) if error.reason() == Some(&Reason::RunEnded) => return Ok(done),
                answer => answer?,
            };
            let Some(claim) = answer.claim else {
                if answer.unclaimable.is_none_or(|why| why.pending == 0) {
                    return Ok(done);
                }
                continue;
            };
            self.client.keep_lease(&claim).run(async {}).await?;
            let report = CompleteTaskRequest {
                task_id: claim.task.unwrap_or_default().id,
                lease_token: Some(claim.lease_token),
                summary: "done in rust".to_owned(),
                ..CompleteTaskRequest::default()
            };
            self.client.complete_task(report).await?;
            done += 1;
        }
    }

    async fn wait_for_message(&mut self, name: &str, step: &Step) -> Result<Value> {
        let collector = self
            .collectors
            .get_mut(name)
            .with_context(|| format!("there is no subscription {name}: add a step with `subscribe` and `as` first"))?;
        match (&step.event, &step.end) {
            (Some(event), None) => collector.wait_for_event(event).await,
            (None, Some(end)) => {
                collector.wait_for_end(end, step.kinds.as_deref().unwrap_or_default()).await?;
                Ok(Value::Null)
            }
            _ => bail!("the step with `seen` must have either `event` or `end`: add or remove one of the two members"),
        }
    }

    async fn run_cli(&self, args: &[String]) -> Result<Value> {
        let mut command = Command::new(&self.server.binary);
        let output = command.args(args).args(["--server", &self.server.direct_address]).output().await?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the command `runhub` with {args:?} failed: {error}");
        Ok(Value::Null)
    }
}

/// Returns the name by which later steps refer to this step. Fails if the step has no name.
fn step_name(step: &Step) -> Result<String> {
    step.name.clone().context("the step has no name: add `as` to the step")
}

fn check_refusal(error: &Error, expected: &ExpectedError) -> Result<()> {
    let Error::Refused { reason, code, metadata, fields, .. } = error else {
        bail!(
            "the call must fail with {}, but failed with {error}: check the scenario's steps before this step",
            expected.reason
        );
    };
    let fields: Vec<&String> = fields.iter().map(|(field, _)| field).collect();
    let actual = json!({
        "reason": reason.name(),
        "code": code_name(*code),
        "metadata": metadata,
        "fields": fields,
    });
    match find_difference(&expected_members(expected), Some(&actual)) {
        Some(difference) => bail!(
            "the error {actual} differs from the step's `refused` ({difference}): \
             check the scenario's steps before this step"
        ),
        None => Ok(()),
    }
}

/// Returns the members that the scenario specifies for an expected error.
fn expected_members(expected: &ExpectedError) -> Value {
    let mut members = serde_json::Map::new();
    members.insert("reason".to_owned(), json!(expected.reason));
    if let Some(code) = &expected.code {
        members.insert("code".to_owned(), json!(code));
    }
    if let Some(metadata) = &expected.metadata {
        members.insert("metadata".to_owned(), metadata.clone());
    }
    if let Some(fields) = &expected.fields {
        members.insert("fields".to_owned(), json!(fields));
    }
    Value::Object(members)
}

/// Returns the name of the code in gRPC's documentation, such as `NOT_FOUND`. tonic's own name is `NotFound`.
fn code_name(code: tonic::Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
