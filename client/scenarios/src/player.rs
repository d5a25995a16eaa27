//! Plays scenarios with the Rust client.

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

use crate::background::{Answer, Background, Collector, because, hold};
use crate::json;
use crate::matching::{Variables, difference, substitute, value_at};
use crate::scenario::{Refused, Scenario, Step};
use crate::stage::Stage;

/// The time limit of a step.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// The time limit of a step that expects an error or a lost lease. After more time, the client has retried a refused call, or
/// the lease was lost for another reason.
const SHORT_STEP_LIMIT: Duration = Duration::from_secs(10);

/// The server that a scenario is played against.
pub struct Place {
    /// The address to which clients connect.
    pub address: String,
    /// The `runhub` binary for the verb `cli`.
    pub binary: PathBuf,
    /// The server's own address, for the verb `cli`. It differs from `address` if there is a stage.
    pub direct_address: String,
    /// None if the server is running already; the verb `server` then fails.
    pub stage: Option<Mutex<Stage>>,
}

impl From<Stage> for Place {
    fn from(stage: Stage) -> Self {
        Self {
            address: stage.address(),
            binary: stage.binary().to_owned(),
            direct_address: stage.direct_address(),
            stage: Some(Mutex::new(stage)),
        }
    }
}

/// Plays all parts of a scenario, or only the given one.
///
/// # Errors
/// Fails with the first step whose result is not as expected.
pub async fn play(scenario: &Scenario, part: Option<&str>, place: &Place) -> Result<()> {
    ensure!(part.is_none_or(|name| scenario.parts.contains_key(name)), "the scenario has no part {part:?}");
    let parts = scenario.parts.iter().filter(|(name, _)| part.is_none_or(|part| part == name.as_str()));
    try_join_all(parts.map(|(name, steps)| play_part(name, steps, place))).await?;
    Ok(())
}

async fn play_part(name: &str, steps: &[Value], place: &Place) -> Result<()> {
    let client = Client::connect(&place.address).await?;
    let mut player = Player {
        client,
        place,
        variables: Variables::new(),
        calls: BTreeMap::new(),
        leases: BTreeMap::new(),
        collectors: BTreeMap::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        let is_short = step.get("refused").or(step.get("lost")).is_some();
        let limit = if is_short { SHORT_STEP_LIMIT } else { STEP_LIMIT };
        let played = tokio::time::timeout(limit, player.step(step)).await;
        let played = played.with_context(|| format!("the step took longer than {limit:?}")).flatten();
        played.with_context(|| format!("part {name}, step {}: {step}", number + 1))?;
    }
    Ok(())
}

/// Plays the steps of one part. Holds the part's variables and background work.
struct Player<'a> {
    client: Client,
    place: &'a Place,
    variables: Variables,
    calls: BTreeMap<String, Background<Answer>>,
    leases: BTreeMap<String, Background<Option<LeaseLost>>>,
    collectors: BTreeMap<String, Collector>,
}

impl Player<'_> {
    async fn step(&mut self, step: &Value) -> Result<()> {
        let step: Step = serde_json::from_value(substitute(step, &self.variables)?)?;
        let answer = match &step {
            Step { call: Some(rpc), .. } => return self.call(rpc, &step).await,
            Step { answer: Some(name), .. } => {
                let call = self.calls.remove(name).with_context(|| format!("no call was started as {name}"))?;
                return self.check(call.join().await?, &step);
            }
            Step { server: Some(command), .. } => {
                let stage = self
                    .place
                    .stage
                    .as_ref()
                    .context("the verb server needs a stage, but --server names a server without one")?;
                stage.lock().await.execute(command).await?;
                Value::Null
            }
            Step { hold: Some(claim), .. } => {
                let lease = hold(&self.client, &json::typed("Claim", claim)?);
                self.leases.insert(name(&step)?, lease);
                Value::Null
            }
            Step { lost: Some(name), .. } => self.lost(name, &step).await?,
            Step { let_go: Some(name), .. } => self.let_go(name)?,
            Step { work: Some(request), .. } => {
                json!({ "done": self.work(&json::typed("ClaimTaskRequest", request)?).await? })
            }
            Step { subscribe: Some(request), .. } => {
                let collector = Collector::begin(&self.client, json::typed("SubscribeEventsRequest", request)?);
                self.collectors.insert(name(&step)?, collector);
                Value::Null
            }
            Step { seen: Some(name), .. } => self.seen(name, &step).await?,
            Step { cli: Some(args), .. } => self.cli(args).await?,
            _ => bail!("the step has no verb"),
        };
        self.check(Ok(answer), &step)
    }

    async fn call(&mut self, rpc: &str, step: &Step) -> Result<()> {
        let method = json::method(rpc)?;
        let request = json::encode(method.input(), &step.with)?;
        let client = self.client.clone();
        let call = async move {
            let answer = client.call_encoded(method.name(), &request).await?;
            json::decode(method.output(), &answer)
                .map_err(|error| Error::Lost { code: tonic::Code::Internal, message: error.to_string() })
        };
        match &step.name {
            Some(name) => {
                self.calls.insert(name.clone(), Background::begin(call));
                Ok(())
            }
            None => self.check(call.await, step),
        }
    }

    /// Compares the answer with what the step expects, and saves its variables.
    fn check(&mut self, answer: Answer, step: &Step) -> Result<()> {
        let answer = match (answer, &step.refused) {
            (Ok(answer), None) => answer,
            (Err(error), Some(refused)) => return check_refusal(&error, refused),
            (Ok(answer), Some(refused)) => bail!("expected the error {}, got the answer {answer}", refused.reason),
            (Err(error), None) => return Err(error.into()),
        };
        if let Some(difference) = step.expect.as_ref().and_then(|expected| difference(expected, Some(&answer))) {
            bail!("{difference}; the whole answer: {answer}");
        }
        for (name, path) in &step.save {
            let value = value_at(&answer, path).with_context(|| format!("there is no value at {path} in {answer}"))?;
            self.variables.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    async fn lost(&mut self, name: &str, step: &Step) -> Result<Value> {
        let lease = self.leases.remove(name).with_context(|| format!("no lease is held as {name}"))?;
        let lost = lease.join().await?.context("the work ended, but its lease was not lost")?;
        ensure!(step.because.as_deref() == Some(because(&lost)), "expected {:?}, got {lost:?}", step.because);
        Ok(Value::Null)
    }

    fn let_go(&mut self, name: &str) -> Result<Value> {
        let lease = self.leases.remove(name).with_context(|| format!("no lease is held as {name}"))?;
        ensure!(!lease.has_ended(), "the work was cancelled");
        Ok(Value::Null)
    }

    /// Works as one agent until nothing is left to claim, and returns how many tasks the agent has completed.
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

    async fn seen(&mut self, name: &str, step: &Step) -> Result<Value> {
        let collector =
            self.collectors.get_mut(name).with_context(|| format!("no subscription was started as {name}"))?;
        match (&step.event, &step.end) {
            (Some(event), None) => collector.event(event).await,
            (None, Some(end)) => {
                collector.end(end, step.kinds.as_deref().unwrap_or_default()).await?;
                Ok(Value::Null)
            }
            _ => bail!("a step with seen must have either event or end"),
        }
    }

    async fn cli(&self, args: &[String]) -> Result<Value> {
        let mut command = Command::new(&self.place.binary);
        let output = command.args(args).args(["--server", &self.place.direct_address]).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Value::Null)
    }
}

/// Returns the name under which later steps refer to this one.
fn name(step: &Step) -> Result<String> {
    step.name.clone().context("the step has no name: add \"as\"")
}

fn check_refusal(error: &Error, expected: &Refused) -> Result<()> {
    let Error::Refused { reason, code, metadata, fields, .. } = error else {
        bail!("expected the error {}, got {error}", expected.reason);
    };
    let fields: Vec<&String> = fields.iter().map(|(field, _)| field).collect();
    let actual = json!({
        "reason": reason.name(),
        "code": code_name(*code),
        "metadata": metadata,
        "fields": fields,
    });
    match difference(&members_of(expected), Some(&actual)) {
        Some(difference) => bail!("{difference}; the whole error: {actual}"),
        None => Ok(()),
    }
}

/// Returns the members of an expected error that the scenario gives.
fn members_of(expected: &Refused) -> Value {
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

/// Returns the name that gRPC's documentation gives the code, such as `NOT_FOUND`; tonic's is `NotFound`.
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
