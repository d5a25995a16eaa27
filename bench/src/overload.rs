//! This module measures the rate and the latencies of calls, and the peak memory, while the server is overloaded.

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
use crate::appends::AppendCalls;
use crate::bench::Bench;
use crate::claims::{add_tasks, claim_request, completion_request};
use crate::load::{self, RepeatedCall, join_all};
use crate::row::{Row, Target};
use crate::sample::{Sample, SharedSample};

/// Target: the minimum ratio of the rate of accepted calls in a step to the highest rate of accepted calls in any step.
const MIN_SHARE_OF_BEST_RATE: f64 = 0.8;
/// Target: the maximum p99 of the latencies of refusals, heartbeats and completions, in milliseconds.
const MAX_MILLIS: f64 = 100.0;
/// Target: the maximum peak memory of the server, in MiB.
const MAX_MIB: f64 = 512.0;

/// The steps of the measurement, from fewer callers than `SATURATING_CALLERS` to 16 times `SATURATING_CALLERS`.
const STEPS: [Step; 5] = [
    Step { callers: 64, is_patient: true },
    Step { callers: SATURATING_CALLERS, is_patient: true },
    Step { callers: 1_024, is_patient: true },
    Step { callers: 1_024, is_patient: false },
    Step { callers: 4_096, is_patient: true },
];
/// Number of callers beyond which the rate of accepted calls does not rise further.
const SATURATING_CALLERS: usize = 256;

#[derive(Clone, Copy)]
struct Step {
    callers: usize,
    /// If a caller waits for the retry delay in a refusal before repeating the call, the value is true. If the caller
    /// repeats the call immediately, the value is false.
    is_patient: bool,
}

/// Number of tasks that one agent claims at the start of a step. The agent can't complete all claimed tasks within
/// `Bench::counting_time`.
const CLAIMED_TASKS: usize = 500;

/// The time within which the callers start one after another. The bench counts calls only after twice this time.
const RAMP: Duration = Duration::from_millis(500);

/// Measures the calls of every step and returns the result rows. The bench starts a server for the measurement, because
/// an overloaded server refuses the calls of other clients. Fails if the server can't be started, or if a call fails
/// with an error other than a refusal with a retry delay.
pub async fn measure_overload(bench: &Bench) -> Result<Vec<Row>, Error> {
    let server = bench.start_server()?;
    let bench = bench.connect_to_server(&server.url).await?;
    bench.warm_up().await?;
    bench.start_progress("overload", bench.rounds() * STEPS.len());
    let append_calls = Arc::new(AppendCalls::new(&bench, bench.agents).await?);
    let mut steps = Vec::new();
    for step in STEPS {
        steps.push((step, StepTimes::new()?));
    }
    for _ in 0..bench.rounds() {
        for (step, times) in &mut steps {
            times.extend(&run_step(&bench, &append_calls, *step).await?);
            bench.advance(1);
        }
    }
    let best_rate = steps.iter().map(|(_, times)| times.accepted_per_second()).fold(0.0, f64::max);
    let mut rows = Vec::new();
    for (step, times) in steps.iter().filter(|(step, _)| step.callers > SATURATING_CALLERS) {
        rows.extend(create_step_rows(*step, times, best_rate, bench.max_calls_in_service()));
    }
    let peak = server.peak_mib().map(|mib| Row::new("peak resident memory under overload", "MiB", mib));
    rows.extend(peak.map(|row| row.with_target(Target::AtMost(MAX_MIB))));
    Ok(rows)
}

fn create_step_rows(step: Step, times: &StepTimes, best_rate: f64, max_calls_in_service: usize) -> Vec<Row> {
    let retries = if step.is_patient { "retries after the RetryInfo delay" } else { "immediate retries" };
    let callers = HumanCount(step.callers as u64);
    let name = |figure: &str| format!("{callers} callers, {retries}: {figure}");
    let accepted = Row::new(name("accepted calls; vs. the best rate"), "/s", times.accepted_per_second())
        .with_times(&times.accepted)
        .with_ceiling(best_rate)
        .with_target(Target::AtLeast(MIN_SHARE_OF_BEST_RATE));
    let delay = |figure: &str, times: &Sample| Row::p99(name(figure), times).with_target(Target::AtMost(MAX_MILLIS));
    let mut rows = vec![accepted];
    if step.callers > max_calls_in_service {
        rows.push(delay("latency of a refusal", &times.refused));
    }
    rows.push(delay("latency of a heartbeat", &times.heartbeats));
    rows.push(delay("latency of a completion", &times.completions));
    rows
}

/// The latencies of the counted calls of one step.
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

/// The phases of a step: the callers start (`RAMPING`), the bench counts calls (`COUNTING`), and the callers stop
/// (`STOPPING`).
const RAMPING: u8 = 0;
const COUNTING: u8 = 1;
const STOPPING: u8 = 2;

/// The state that all callers of a step share.
struct StepState {
    phase: AtomicU8,
    accepted: SharedSample,
    refused: SharedSample,
}

/// Runs all callers of a step together with one agent that completes tasks, and returns the latencies of the calls.
/// Fails if a call fails with an error other than a refusal with a retry delay.
async fn run_step(bench: &Bench, append_calls: &Arc<AppendCalls>, step: Step) -> Result<StepTimes, Error> {
    let claims = claim_tasks(bench).await?;
    let connection = load::connect(&bench.url, load::WIDE_WINDOW).await?;
    let shared = Arc::new(StepState {
        phase: AtomicU8::new(RAMPING),
        accepted: SharedSample::new()?,
        refused: SharedSample::new()?,
    });
    let mut calls = JoinSet::new();
    for caller in 0..step.callers {
        let shared = Arc::clone(&shared);
        let append_calls = Arc::clone(append_calls);
        calls.spawn(async move {
            tokio::time::sleep(RAMP * caller as u32 / step.callers as u32).await;
            shared.call_until_step_ends(&append_calls, caller, step.is_patient).await
        });
    }
    tokio::time::sleep(2 * RAMP).await;
    shared.phase.store(COUNTING, Ordering::Relaxed);
    let mut times = StepTimes::new()?;
    complete_tasks(bench, connection, &claims, &mut times).await?;
    shared.phase.store(STOPPING, Ordering::Relaxed);
    join_all(calls).await?;
    times.accepted = shared.accepted.snapshot();
    times.refused = shared.refused.snapshot();
    Ok(times)
}

impl StepState {
    /// Repeats the append call until the step has ended. Fails if a call fails with an error other than a refusal with
    /// a retry delay.
    async fn call_until_step_ends(
        &self,
        append_calls: &AppendCalls,
        caller: usize,
        is_patient: bool,
    ) -> Result<(), Status> {
        while self.phase.load(Ordering::Relaxed) != STOPPING {
            let called = Instant::now();
            match append_calls.call(caller).await {
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

/// Creates a run with `CLAIMED_TASKS` tasks, claims all tasks of the run, and returns the claims. Fails if a call
/// fails.
async fn claim_tasks(bench: &Bench) -> Result<Vec<v1::Claim>, Error> {
    let run_id = bench.create_run().await?;
    add_tasks(bench, &run_id, CLAIMED_TASKS).await?;
    let mut claims = Vec::new();
    for _ in 0..CLAIMED_TASKS {
        claims.extend(bench.client.claim_task(claim_request(run_id.clone(), None)).await?.claim);
    }
    Ok(claims)
}

/// Sends a heartbeat for each claimed task and completes the task, over a separate connection, until
/// `Bench::counting_time` has passed. Adds the latencies of the calls to `times`. Fails if a call fails.
async fn complete_tasks(
    bench: &Bench,
    connection: Channel,
    claims: &[v1::Claim],
    times: &mut StepTimes,
) -> Result<(), Error> {
    let mut tasks = TaskServiceClient::new(connection);
    let counting_time = bench.counting_time();
    let started = Instant::now();
    for claim in claims {
        let beats = vec![v1::Beat { lease_token: claim.lease_token.clone(), ..Default::default() }];
        let called = Instant::now();
        tasks.heartbeat(v1::HeartbeatRequest { beats, ..Default::default() }).await?;
        let answered = Instant::now();
        tasks.complete_task(completion_request(claim)).await?;
        times.heartbeats.record(answered - called);
        times.completions.record(answered.elapsed());
        if started.elapsed() >= counting_time {
            break;
        }
    }
    times.duration = started.elapsed();
    Ok(())
}
