//! More callers than the server can serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use runhub_api::v1;
use runhub_api::v1::task_service_client::TaskServiceClient;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::Bench;
use super::appends::Appending;
use super::claims::{add_tasks, claim_request};
use super::load::{self, joined};
use super::own_server::OwnServer;
use super::row::{Row, Target};
use super::sample::Sample;
use crate::cli::Failure;

/// Of the rate of a load that just saturates the server.
const LEAST_ACCEPTED: f64 = 0.8;
/// Until a call is refused, and for a sign of life.
const MOST_MILLIS: f64 = 100.0;
const MOST_MIB: f64 = 512.0;

/// In flight: enough for the most a second that there is.
const SATURATING: usize = 256;
/// Four times as many, and far more than are let in.
const TIMES: [usize; 2] = [4, 16];

/// Callers come one after the other within this time; what happens until it has passed twice is not counted.
const RAMP: Duration = Duration::from_millis(500);

/// The rows, measured on a server of its own: another's callers would be refused.
pub async fn all(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let server = OwnServer::start()?;
    let bench = bench.at(&server.url).await?;
    bench.begin("overload", bench.turns() * (1 + TIMES.len()));
    let appending = Arc::new(Appending::new(&bench, bench.agents).await?);
    let (mut best, mut most) = (Pressed::default(), TIMES.map(|_| Pressed::default()));
    for _ in 0..bench.turns() {
        best.extend(press(&bench, &appending, SATURATING).await?);
        bench.progress.inc(1);
        for (pressed, times) in most.iter_mut().zip(TIMES) {
            pressed.extend(press(&bench, &appending, times * SATURATING).await?);
            bench.progress.inc(1);
        }
    }
    let mut rows = Vec::new();
    for (pressed, times) in most.iter().zip(TIMES) {
        let name = format!("{} appends in flight: accepted; of {SATURATING} in flight", times * SATURATING);
        rows.push(
            Row::new(name, "/s", pressed.accepted_per_second())
                .with_times(pressed.accepted.percentile(50), pressed.accepted.percentile(99))
                .of(best.accepted_per_second())
                .judged_by(Target::AtLeast(LEAST_ACCEPTED)),
        );
    }
    let worst = &most[TIMES.len() - 1];
    let p99 = |name: &str, sample: &Sample| {
        Row::new(name, "ms", sample.percentile(99)).with_times(sample.percentile(50), sample.percentile(99))
    };
    rows.push(p99("… a refusal then", &worst.refused).judged_by(Target::AtMost(MOST_MILLIS)));
    rows.push(p99("… a heartbeat then", &worst.beats).judged_by(Target::AtMost(MOST_MILLIS)));
    rows.extend(
        server
            .resident_mib()
            .map(|mib| Row::new("… resident after it", "MiB", mib).judged_by(Target::AtMost(MOST_MIB))),
    );
    Ok(rows)
}

/// What became of the calls.
#[derive(Default)]
struct Pressed {
    took: Duration,
    accepted: Sample,
    refused: Sample,
    beats: Sample,
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
    }
}

/// What a load is up to.
const RAMPING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// Callers who call again as soon as they are answered, or when the refusal says so; and one who holds a task.
async fn press(bench: &Bench, appending: &Arc<Appending>, callers: usize) -> Result<Pressed, Failure> {
    let (phase, mut calls) = (Arc::new(AtomicU8::new(RAMPING)), JoinSet::new());
    let token = hold_a_task(bench).await?;
    for caller in 0..callers {
        let (phase, appending) = (Arc::clone(&phase), Arc::clone(appending));
        calls.spawn(async move {
            tokio::time::sleep(RAMP * caller as u32 / callers as u32).await;
            call_until_over(&phase, &appending, caller).await
        });
    }
    tokio::time::sleep(2 * RAMP).await;
    phase.store(COUNTING, Ordering::Relaxed);
    let begun = Instant::now();
    let beats = beat(bench, token).await?;
    let mut pressed = Pressed { took: begun.elapsed(), beats, ..Pressed::default() };
    phase.store(OVER, Ordering::Relaxed);
    while let Some(done) = calls.join_next().await {
        let (accepted, refused) = joined(done)?;
        pressed.accepted.extend(accepted);
        pressed.refused.extend(refused);
    }
    Ok(pressed)
}

/// How long the calls took that were accepted, and those that were refused.
async fn call_until_over(phase: &AtomicU8, appending: &Appending, caller: usize) -> Result<(Sample, Sample), Status> {
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
                tokio::time::sleep(retry.ok_or(status)?).await;
            }
            Err(status) => return Err(status),
        }
    }
    Ok((accepted, refused))
}

async fn hold_a_task(bench: &Bench) -> Result<String, Failure> {
    let run_id = bench.new_run().await?;
    add_tasks(bench, &run_id, 1).await?;
    Ok(bench.client.claim_task(claim_request(run_id, None)).await?.claim.unwrap_or_default().lease_token)
}

/// One after the other, for some time, on a connection of its own.
async fn beat(bench: &Bench, token: String) -> Result<Sample, Failure> {
    let connection = load::connect(&bench.url, load::WIDE).await?;
    let beats = vec![v1::Beat { lease_token: token, ..Default::default() }];
    let (begun, mut sample) = (Instant::now(), Sample::default());
    let time = Duration::from_millis(if bench.quick { 300 } else { 3_000 });
    while begun.elapsed() < time {
        let request = v1::HeartbeatRequest { beats: beats.clone(), ..Default::default() };
        let called = Instant::now();
        TaskServiceClient::new(connection.clone()).heartbeat(request).await.map_err(runhub_client::Error::from)?;
        sample.add(called.elapsed());
    }
    Ok(sample)
}
