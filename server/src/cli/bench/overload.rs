//! More callers than the server can serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::task_service_client::TaskServiceClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::Bench;
use super::appends::Appending;
use super::claims::{add_tasks, claim_request, completion};
use super::load::{self, Work, joined};
use super::own_server::OwnServer;
use super::row::{Row, Target, counted};
use super::sample::Sample;
use crate::cli::Failure;
use crate::domain::limits;

/// Of the best rate there was.
const LEAST_ACCEPTED: f64 = 0.8;
/// Until a call is refused, and for what goes first.
const MOST_MILLIS: f64 = 100.0;
const MOST_MIB: f64 = 512.0;

/// Callers: what does not saturate the server yet, what does, four times as many, and far more than are let in.
const STEPS: [Step; 5] = [
    Step { callers: 64, is_patient: true },
    Step { callers: 256, is_patient: true },
    Step { callers: 1_024, is_patient: true },
    Step { callers: 1_024, is_patient: false },
    Step { callers: 4_096, is_patient: true },
];
/// Beyond it the rate grows no more.
const SATURATING: usize = 256;

#[derive(Clone, Copy)]
struct Step {
    callers: usize,
    /// Who is refused comes back when told; or else at once.
    is_patient: bool,
}

/// Tasks of who works meanwhile: more than can be done in the time.
const HELD: usize = 500;

/// Callers come one after the other within this time; what happens until it has passed twice is not counted.
const RAMP: Duration = Duration::from_millis(500);

/// The rows, measured on a server of its own: another's callers would be refused.
pub async fn all(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let server = OwnServer::start()?;
    let bench = bench.at(&server.url).await?;
    bench.warm_up().await?;
    bench.begin("overload", bench.turns() * STEPS.len());
    let appending = Arc::new(Appending::new(&bench, bench.agents).await?);
    let mut steps = STEPS.map(|step| (step, Pressed::default()));
    for _ in 0..bench.turns() {
        for (step, pressed) in &mut steps {
            pressed.extend(press(&bench, &appending, *step).await?);
            bench.progress.inc(1);
        }
    }
    Ok(rows(&steps, server.peak_mib()))
}

fn rows(steps: &[(Step, Pressed)], peak_mib: Option<f64>) -> Vec<Row> {
    let best = steps.iter().map(|(_, pressed)| pressed.accepted_per_second()).fold(0.0, f64::max);
    let mut rows = Vec::new();
    for (Step { callers, is_patient }, pressed) in steps.iter().filter(|(step, _)| step.callers > SATURATING) {
        let again = if *is_patient { "when told" } else { "at once" };
        let named = |what: &str| format!("{} callers, refused ones again {again}: {what}", counted(*callers));
        let accepted = Row::new(named("accepted; of the best rate"), "/s", pressed.accepted_per_second());
        let accepted = accepted.with_times(&pressed.accepted).of(best);
        rows.push(accepted.judged_by(Target::AtLeast(LEAST_ACCEPTED)));
        let first = [("a heartbeat", &pressed.beats), ("a completion", &pressed.ends)];
        let refusals = (*callers > limits::CALLS_IN_SERVICE).then_some(("a refusal", &pressed.refused));
        for (what, times) in refusals.into_iter().chain(first) {
            rows.push(Row::p99(named(what), times).judged_by(Target::AtMost(MOST_MILLIS)));
        }
    }
    let peak = peak_mib.map(|mib| Row::new("the most that was resident during all these", "MiB", mib));
    rows.extend(peak.map(|row| row.judged_by(Target::AtMost(MOST_MIB))));
    rows
}

/// What became of the calls.
#[derive(Default)]
struct Pressed {
    took: Duration,
    accepted: Sample,
    refused: Sample,
    beats: Sample,
    ends: Sample,
}

impl Pressed {
    fn accepted_per_second(&self) -> f64 {
        self.accepted.len() as f64 / self.took.as_secs_f64()
    }

    fn extend(&mut self, other: Self) {
        self.took += other.took;
        self.accepted.extend(other.accepted);
        self.refused.extend(other.refused);
        self.beats.extend(other.beats);
        self.ends.extend(other.ends);
    }
}

/// What a load is up to.
const RAMPING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// Callers who call again as soon as they are answered, or when the refusal says so; and one who works.
async fn press(bench: &Bench, appending: &Arc<Appending>, step: Step) -> Result<Pressed, Failure> {
    let (phase, mut calls) = (Arc::new(AtomicU8::new(RAMPING)), JoinSet::new());
    let (held, connection) = (hold_tasks(bench).await?, load::connect(&bench.url, load::WIDE).await?);
    for caller in 0..step.callers {
        let (phase, appending) = (Arc::clone(&phase), Arc::clone(appending));
        calls.spawn(async move {
            tokio::time::sleep(RAMP * caller as u32 / step.callers as u32).await;
            call_until_over(&phase, &appending, caller, step.is_patient).await
        });
    }
    tokio::time::sleep(2 * RAMP).await;
    phase.store(COUNTING, Ordering::Relaxed);
    let mut pressed = work(bench, connection, &held).await?;
    phase.store(OVER, Ordering::Relaxed);
    while let Some(done) = calls.join_next().await {
        let (accepted, refused) = joined(done)?;
        pressed.accepted.extend(accepted);
        pressed.refused.extend(refused);
    }
    Ok(pressed)
}

/// How long the calls took that were accepted, and those that were refused.
async fn call_until_over(
    phase: &AtomicU8,
    appending: &Appending,
    caller: usize,
    is_patient: bool,
) -> Result<(Sample, Sample), Status> {
    let (mut accepted, mut refused) = (Sample::default(), Sample::default());
    while phase.load(Ordering::Relaxed) != OVER {
        let called = Instant::now();
        let answer = appending.call(caller).await;
        let counts = phase.load(Ordering::Relaxed) == COUNTING;
        match answer {
            Ok(()) => accepted.add_if(counts, called.elapsed()),
            Err(status) if status.code() == Code::ResourceExhausted => {
                refused.add_if(counts, called.elapsed());
                let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
                let retry = retry.ok_or(status)?;
                tokio::time::sleep(if is_patient { retry } else { Duration::ZERO }).await;
            }
            Err(status) => return Err(status),
        }
    }
    Ok((accepted, refused))
}

/// Enough of them for as long as it works.
async fn hold_tasks(bench: &Bench) -> Result<Vec<v1::Claim>, Failure> {
    let run_id = bench.new_run().await?;
    add_tasks(bench, &run_id, HELD).await?;
    let mut held = Vec::new();
    for _ in 0..HELD {
        held.extend(bench.client.claim_task(claim_request(run_id.clone(), None)).await?.claim);
    }
    Ok(held)
}

/// Says of each task that it is alive and then that it is done, for some time, on a connection of its own.
async fn work(bench: &Bench, connection: Channel, held: &[v1::Claim]) -> Result<Pressed, Failure> {
    let mut tasks = TaskServiceClient::new(connection);
    let time = Duration::from_millis(if bench.quick { 300 } else { 3_000 });
    let (begun, mut pressed) = (Instant::now(), Pressed::default());
    for claim in held {
        let beats = vec![v1::Beat { lease_token: claim.lease_token.clone(), ..Default::default() }];
        let called = Instant::now();
        tasks
            .heartbeat(v1::HeartbeatRequest { beats, ..Default::default() })
            .await
            .map_err(runhub_client::Error::from)?;
        let beaten = Instant::now();
        tasks.complete_task(completion(claim)).await.map_err(runhub_client::Error::from)?;
        pressed.beats.add(beaten - called);
        pressed.ends.add(beaten.elapsed());
        if begun.elapsed() >= time {
            break;
        }
    }
    pressed.took = begun.elapsed();
    Ok(pressed)
}
