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

use crate::background::{Answer, Background, Watch, because, hold};
use crate::json;
use crate::matching::{Variables, at, difference, substitute};
use crate::scenario::{Refused, Scenario, Step};
use crate::stage::Stage;

/// A step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same of what a client must not try again, or must notice soon.
const SHORT_PATIENCE: Duration = Duration::from_secs(10);

/// Where a scenario is played.
pub struct Place {
    /// Where clients connect.
    pub address: String,
    /// The command line, and where it connects.
    pub binary: PathBuf,
    /// As `address`, unless there is a stage.
    pub direct_address: String,
    /// Without one the server can't be told anything.
    pub stage: Option<Mutex<Stage>>,
}

impl From<Stage> for Place {
    fn from(stage: Stage) -> Self {
        let (address, direct_address, binary) = (stage.address(), stage.direct_address(), stage.binary().to_owned());
        Self { address, binary, direct_address, stage: Some(Mutex::new(stage)) }
    }
}

/// Plays all parts of a scenario, or this one.
///
/// # Errors
/// The first step that came out otherwise than it should.
pub async fn play(scenario: &Scenario, part: Option<&str>, place: &Place) -> Result<()> {
    ensure!(part.is_none_or(|name| scenario.parts.contains_key(name)), "it has no part {part:?}");
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
        watches: BTreeMap::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        let must_be_soon = step.get("refused").or(step.get("lost")).is_some();
        let patience = if must_be_soon { SHORT_PATIENCE } else { PATIENCE };
        let played = tokio::time::timeout(patience, player.step(step)).await;
        let played = played.with_context(|| format!("it takes longer than {patience:?}")).flatten();
        played.with_context(|| format!("part {name}, step {}: {step}", number + 1))?;
    }
    Ok(())
}

struct Player<'a> {
    client: Client,
    place: &'a Place,
    variables: Variables,
    calls: BTreeMap<String, Background<Answer>>,
    leases: BTreeMap<String, Background<Option<LeaseLost>>>,
    watches: BTreeMap<String, Watch>,
}

impl Player<'_> {
    async fn step(&mut self, step: &Value) -> Result<()> {
        let step: Step = serde_json::from_value(substitute(step, &self.variables)?)?;
        let answer = match &step {
            Step { call: Some(rpc), .. } => return self.call(rpc, &step).await,
            Step { answer: Some(name), .. } => {
                let call = self.calls.remove(name).context("there is no such call")?;
                return self.check(call.end().await?, &step);
            }
            Step { server: Some(command), .. } => {
                let stage = self.place.stage.as_ref().context("there is no stage here")?;
                stage.lock().await.act(command).await?;
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
                let watch = Watch::begin(&self.client, json::typed("SubscribeEventsRequest", request)?);
                self.watches.insert(name(&step)?, watch);
                Value::Null
            }
            Step { seen: Some(name), .. } => self.seen(name, &step).await?,
            Step { cli: Some(args), .. } => self.cli(args).await?,
            _ => bail!("it has no verb"),
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

    /// Compares the answer with what the step wants, and saves what it says.
    fn check(&mut self, answer: Answer, step: &Step) -> Result<()> {
        let answer = match (answer, &step.refused) {
            (Ok(answer), None) => answer,
            (Err(error), Some(refused)) => return check_refusal(&error, refused),
            (Ok(answer), Some(refused)) => bail!("wanted {}, came the answer {answer}", refused.reason),
            (Err(error), None) => return Err(error.into()),
        };
        if let Some(difference) = step.expect.as_ref().and_then(|wanted| difference(wanted, Some(&answer))) {
            bail!("{difference}; all of it: {answer}");
        }
        for (name, path) in &step.save {
            let value = at(&answer, path).with_context(|| format!("nothing at {path} in {answer}"))?;
            self.variables.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    async fn lost(&mut self, name: &str, step: &Step) -> Result<Value> {
        let lease = self.leases.remove(name).context("there is no such lease")?;
        let lost = lease.end().await?.context("the work ended by itself")?;
        ensure!(step.because.as_deref() == Some(because(&lost)), "wanted {:?}, came {lost:?}", step.because);
        Ok(Value::Null)
    }

    fn let_go(&mut self, name: &str) -> Result<Value> {
        let lease = self.leases.remove(name).context("there is no such lease")?;
        ensure!(!lease.has_ended(), "the work was cancelled");
        Ok(Value::Null)
    }

    /// One agent; returns how many tasks it has done.
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
        let watch = self.watches.get_mut(name).context("there is no such subscription")?;
        match (&step.event, &step.end) {
            (Some(event), None) => watch.event(event).await,
            (None, Some(end)) => {
                watch.end(end, step.kinds.as_deref().unwrap_or_default()).await?;
                Ok(Value::Null)
            }
            _ => bail!("it wants neither an event nor the end"),
        }
    }

    async fn cli(&self, args: &[String]) -> Result<Value> {
        let output =
            Command::new(&self.place.binary).args(args).args(["--server", &self.place.direct_address]).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Value::Null)
    }
}

fn name(step: &Step) -> Result<String> {
    step.name.clone().context("it has no name to go by: \"as\"")
}

fn check_refusal(error: &Error, wanted: &Refused) -> Result<()> {
    let Error::Refused { reason, code, metadata, fields, .. } = error else {
        bail!("wanted {}, came {error}", wanted.reason);
    };
    // As the status codes are written everywhere but in Rust.
    let code = format!("{code:?}").chars().fold(String::new(), |mut name, letter| {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
        name
    });
    let fields: Vec<&String> = fields.iter().map(|(field, _)| field).collect();
    let came = json!({ "reason": reason.name(), "code": code, "metadata": metadata, "fields": fields });
    let wanted = [
        ("reason", Some(json!(wanted.reason))),
        ("code", wanted.code.as_ref().map(|code| json!(code))),
        ("metadata", wanted.metadata.clone()),
        ("fields", wanted.fields.as_ref().map(|fields| json!(fields))),
    ];
    let wanted = wanted.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    match difference(&Value::Object(wanted.collect()), Some(&came)) {
        Some(difference) => bail!("{difference}; all of it: {came}"),
        None => Ok(()),
    }
}
