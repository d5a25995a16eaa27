//! More callers than the server can serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use runhub_api::v1;
use runhub_api::v1::task_service_client::TaskServiceClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::Error;
use crate::appends::Appending;
use crate::bench::Bench;
use crate::claims::{add_tasks, claim_request, completion};
use crate::load::{self, Work, join_all};
use crate::own_server::OwnServer;
use crate::row::{Row, Target};
use crate::sample::{Sample, SharedSample};

/// Target: the smallest share of the highest rate of accepted calls.
const MIN_SHARE_OF_BEST_RATE: f64 = 0.8;
/// Target: the p99 of a refusal, and of a call that the server serves first.
const MAX_MILLIS: f64 = 100.0;
/// Target: the server's peak memory.
const MAX_MIB: f64 = 512.0;

/// Fewer callers than saturate the server, as many as saturate it, four times as many, and far more than it admits.
const STEPS: [Step; 5] = [
    Step { callers: 64, is_patient: true },
    Step { callers: SATURATING_CALLERS, is_patient: true },
    Step { callers: 1_024, is_patient: true },
    Step { callers: 1_024, is_patient: false },
    Step { callers: 4_096, is_patient: true },
];
/// More callers than this do not raise the rate.
const SATURATING_CALLERS: usize = 256;

#[derive(Clone, Copy)]
struct Step {
    callers: usize,
    /// A patient caller repeats a refused call after the delay in the refusal; an impatient one repeats it at once.
    is_patient: bool,
}

/// Tasks of the agent that works during the load: more than it can complete in `WORK_TIME`.
const HELD_TASKS: usize = 500;
const WORK_TIME: Duration = Duration::from_secs(3);
const QUICK_WORK_TIME: Duration = Duration::from_millis(300);

/// The callers start one after the other within this time. Calls count after twice this time.
const RAMP: Duration = Duration::from_millis(500);

/// Measures every step on a server that the bench starts, because it would refuse other clients' calls.
pub async fn rows(bench: &Bench) -> Result<Vec<Row>, Error> {
    let server = OwnServer::start(bench.program())?;
    let bench = bench.for_server(&server.url).await?;
    bench.warm_up().await?;
    bench.start_progress("overload", bench.rounds() * STEPS.len());
    let appending = Arc::new(Appending::new(&bench, bench.agents).await?);
    let mut steps = Vec::new();
    for step in STEPS {
        steps.push((step, StepTimes::new()?));
    }
    for _ in 0..bench.rounds() {
        for (step, times) in &mut steps {
            times.extend(&run_step(&bench, &appending, *step).await?);
            bench.advance(1);
        }
    }
    let best_rate = steps.iter().map(|(_, times)| times.accepted_per_second()).fold(0.0, f64::max);
    let mut rows = Vec::new();
    for (step, times) in steps.iter().filter(|(step, _)| step.callers > SATURATING_CALLERS) {
        rows.extend(step_rows(*step, times, best_rate, bench.max_calls_in_service()));
    }
    let peak = server.peak_mib().map(|mib| Row::new("the most that was resident during all these", "MiB", mib));
    rows.extend(peak.map(|row| row.with_target(Target::AtMost(MAX_MIB))));
    Ok(rows)
}

fn step_rows(step: Step, times: &StepTimes, best_rate: f64, max_calls_in_service: usize) -> Vec<Row> {
    let retry = if step.is_patient { "when told" } else { "at once" };
    let callers = HumanCount(step.callers as u64);
    let name = |figure: &str| format!("{callers} callers, refused ones again {retry}: {figure}");
    let accepted = Row::new(name("accepted; of the best rate"), "/s", times.accepted_per_second())
        .with_times(&times.accepted)
        .compared_with(best_rate)
        .with_target(Target::AtLeast(MIN_SHARE_OF_BEST_RATE));
    let delay = |figure: &str, times: &Sample| Row::p99(name(figure), times).with_target(Target::AtMost(MAX_MILLIS));
    let mut rows = vec![accepted];
    if step.callers > max_calls_in_service {
        rows.push(delay("a refusal", &times.refused));
    }
    rows.push(delay("a heartbeat", &times.heartbeats));
    rows.push(delay("a completion", &times.completions));
    rows
}

/// The times of the calls of one step that count.
struct StepTimes {
    duration: Duration,
    accepted: Sample,
    refused: Sample,
    heartbeats: Sample,
    completions: Sample,
}

impl StepTimes {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            duration: Duration::ZERO,
            accepted: Sample::new()?,
            refused: Sample::new()?,
            heartbeats: Sample::new()?,
            completions: Sample::new()?,
        })
    }

    fn accepted_per_second(&self) -> f64 {
        self.accepted.len() as f64 / self.duration.as_secs_f64()
    }

    fn extend(&mut self, other: &Self) {
        self.duration += other.duration;
        self.accepted.extend(&other.accepted);
        self.refused.extend(&other.refused);
        self.heartbeats.extend(&other.heartbeats);
        self.completions.extend(&other.completions);
    }
}

/// The phases of a step.
const RAMPING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// The state that the callers of a step share.
struct Callers {
    phase: AtomicU8,
    accepted: SharedSample,
    refused: SharedSample,
}

/// Runs all callers of a step, and one agent that works during the load.
async fn run_step(bench: &Bench, appending: &Arc<Appending>, step: Step) -> Result<StepTimes, Error> {
    let claims = claim_tasks(bench).await?;
    let connection = load::connect(&bench.url, load::WIDE_WINDOW).await?;
    let shared = Arc::new(Callers {
        phase: AtomicU8::new(RAMPING),
        accepted: SharedSample::new()?,
        refused: SharedSample::new()?,
    });
    let mut calls = JoinSet::new();
    for caller in 0..step.callers {
        let shared = Arc::clone(&shared);
        let appending = Arc::clone(appending);
        calls.spawn(async move {
            tokio::time::sleep(RAMP * caller as u32 / step.callers as u32).await;
            shared.call_until_over(&appending, caller, step.is_patient).await
        });
    }
    tokio::time::sleep(2 * RAMP).await;
    shared.phase.store(COUNTING, Ordering::Relaxed);
    let mut times = StepTimes::new()?;
    work(bench, connection, &claims, &mut times).await?;
    shared.phase.store(OVER, Ordering::Relaxed);
    join_all(calls).await?;
    times.accepted = shared.accepted.snapshot();
    times.refused = shared.refused.snapshot();
    Ok(times)
}

impl Callers {
    /// Repeats the call until the step is over. Fails if a call fails with anything but a refusal.
    async fn call_until_over(&self, appending: &Appending, caller: usize, is_patient: bool) -> Result<(), Status> {
        while self.phase.load(Ordering::Relaxed) != OVER {
            let called = Instant::now();
            match appending.call(caller).await {
                Ok(()) => self.record(&self.accepted, called),
                Err(status) if status.code() == Code::ResourceExhausted => {
                    self.record(&self.refused, called);
                    let retry_delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
                    let retry_delay = retry_delay.ok_or(status)?;
                    tokio::time::sleep(if is_patient { retry_delay } else { Duration::ZERO }).await;
                }
                Err(status) => return Err(status),
            }
        }
        Ok(())
    }

    fn record(&self, sample: &SharedSample, called: Instant) {
        let time = called.elapsed();
        if self.phase.load(Ordering::Relaxed) == COUNTING {
            sample.record(time);
        }
    }
}

/// Claims the tasks of the agent that works during the load.
async fn claim_tasks(bench: &Bench) -> Result<Vec<v1::Claim>, Error> {
    let run_id = bench.create_run().await?;
    add_tasks(bench, &run_id, HELD_TASKS).await?;
    let mut claims = Vec::new();
    for _ in 0..HELD_TASKS {
        claims.extend(bench.client.claim_task(claim_request(run_id.clone(), None)).await?.claim);
    }
    Ok(claims)
}

/// Sends a heartbeat for each task and completes it, on a connection of its own, until the work time is over.
async fn work(bench: &Bench, connection: Channel, claims: &[v1::Claim], times: &mut StepTimes) -> Result<(), Error> {
    let mut tasks = TaskServiceClient::new(connection);
    let work_time = if bench.quick { QUICK_WORK_TIME } else { WORK_TIME };
    let started = Instant::now();
    for claim in claims {
        let beats = vec![v1::Beat { lease_token: claim.lease_token.clone(), ..Default::default() }];
        let called = Instant::now();
        tasks.heartbeat(v1::HeartbeatRequest { beats, ..Default::default() }).await?;
        let answered = Instant::now();
        tasks.complete_task(completion(claim)).await?;
        times.heartbeats.record(answered - called);
        times.completions.record(answered.elapsed());
        if started.elapsed() >= work_time {
            break;
        }
    }
    times.duration = started.elapsed();
    Ok(())
}
