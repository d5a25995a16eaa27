//! Watchers that reconnect at random, with any cursor, while runs are written and deleted and retention removes events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use runhub_client::{Client, Reason};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::oracle::{Log, Part, PartEnd, assert_no_violations_in};
use crate::support::random::Random;
use crate::support::record::{ReadLimits, Recorder, archive_events, committed_log, newest_and_removed};
use crate::support::{channel, print_figures, soon};

const WRITERS: usize = 8;
const RUNS: usize = 40;
const WATCHERS: usize = 60;
/// The test takes longer if a slow machine has fewer than `EVENTS` events after this time.
const DURATION: Duration = Duration::from_secs(65);
/// On PostgreSQL, a load of 2,000 events sometimes caused fewer deliveries than `Figures::print_and_check` expects.
const EVENTS: usize = if crate::ON_POSTGRES { 4_000 } else { 20_000 };
/// On PostgreSQL, a tenth is required, because the transactions and the test's own queries take longer than on SQLite.
const SHARE: usize = if crate::ON_POSTGRES { 10 } else { 1 };
/// Far longer than a watcher reads, far shorter than the test takes.
const RETENTION: &str = "2s";
/// Longer than `RETENTION`, so that retention overtakes a watcher that stalls for this time.
const STALL: Duration = Duration::from_secs(5);

/// The state that all tasks of the test share.
struct World {
    url: String,
    db: TestDatabase,
    /// Id of each run, with the id of its task.
    runs: Mutex<Vec<(String, String)>>,
    ends: Instant,
    /// Number of acknowledged events.
    acknowledged: AtomicUsize,
}

impl World {
    fn run(&self, random: &mut Random) -> (String, String) {
        let runs = self.runs.lock().unwrap();
        runs[random.below(runs.len())].clone()
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.ends && self.acknowledged.load(Ordering::Relaxed) >= EVENTS
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_reconnect_at_random_miss_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = TestDatabase::in_folder(folder.path());
    archive_events(&db).await;
    let server = Binary::start_in(folder.path(), &["--keep-events-for", RETENTION]);
    let client = server.connect().await;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(run_with_task(&client).await);
    }
    let url = format!("http://{}", server.address);
    let ends = Instant::now() + DURATION;
    let world =
        Arc::new(World { url, db: db.clone(), runs: Mutex::new(runs), ends, acknowledged: AtomicUsize::new(0) });
    let mut writers = JoinSet::new();
    for seed in 0..WRITERS {
        writers.spawn(write(Arc::clone(&world), server.connect().await, Random::new(seed as u64)));
    }
    writers.spawn(delete_runs(Arc::clone(&world), client));
    let mut watchers = JoinSet::new();
    for seed in 0..WATCHERS {
        watchers.spawn(watch(Arc::clone(&world), Random::new(1_000 + seed as u64)));
    }
    writers.join_all().await;
    let mut chains: Vec<Vec<Part>> = watchers.join_all().await.into_iter().flatten().collect();
    chains.extend(end_all(&world, &server.connect().await).await);
    let log = committed_log(&db);
    let acknowledged = world.acknowledged.load(Ordering::Relaxed);
    assert!(log.events().len() >= acknowledged, "{acknowledged} were acknowledged");
    // Use both processors, because the check is long.
    let (one_half, other_half) = chains.split_at(chains.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_no_violations_in(&log, one_half.iter().map(Vec::as_slice)));
        assert_no_violations_in(&log, other_half.iter().map(Vec::as_slice));
    });
    Figures::of(&log, &chains).print_and_check();
}

async fn run_with_task(client: &Client) -> (String, String) {
    let run_id = new_run(client).await.id;
    let task_id = add_task(client, &run_id, draft("t")).await.id;
    (run_id, task_id)
}

/// Appends until the test is over.
async fn write(world: Arc<World>, client: Client, mut random: Random) {
    const KINDS: [&str; 4] = ["note_a", "note_b", "tool", "other"];
    const SOURCES: [&str; 3] = ["planner", "worker", "checker"];
    while !world.is_over() {
        let (run_id, task_id) = world.run(&mut random);
        let draft = |random: &mut Random| EventDraft {
            task_id: Some(task_id.clone()).filter(|_| random.percent(30)),
            source: SOURCES[random.below(SOURCES.len())].into(),
            message: "x".repeat(if random.percent(2) { 20_000 } else { 20 }),
            ..event(KINDS[random.below(KINDS.len())])
        };
        let events: Vec<EventDraft> = (0..1 + random.below(5)).map(|_| draft(&mut random)).collect();
        if random.percent(2) {
            end_and_reopen(&client, &run_id).await;
        }
        let count = events.len();
        match client.append_events(AppendEventsRequest { run_id, events, ..unset() }).await {
            Ok(_) => drop(world.acknowledged.fetch_add(count, Ordering::Relaxed)),
            Err(error) => assert_eq!(error.reason(), Some(&Reason::RunNotFound), "deleted meanwhile: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(random.below(50) as u64)).await;
    }
}

async fn end_and_reopen(client: &Client, run_id: &str) {
    for status in [RunStatus::Completed, RunStatus::Running] {
        let update = UpdateRunRequest { run_id: run_id.into(), status: Some(status.into()), ..unset() };
        // The run may have been deleted meanwhile.
        let _ = client.update_run(update).await;
    }
}

/// Ends and deletes a run every 300 ms, and creates another in its place.
async fn delete_runs(world: Arc<World>, client: Client) {
    let mut random = Random::new(77);
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let next = run_with_task(&client).await;
        let at = random.below(RUNS);
        let (run_id, _) = std::mem::replace(&mut world.runs.lock().unwrap()[at], next);
        let delete = DeleteRunRequest { run_id: run_id.clone(), ..unset() };
        set_status(&client, &run_id, RunStatus::Completed).await;
        // A writer may have reopened the run.
        while client.delete_run(delete.clone()).await.is_err() {
            set_status(&client, &run_id, RunStatus::Completed).await;
        }
    }
}

/// Records one chain after the other, each with another scope, filter and cursor.
async fn watch(world: Arc<World>, mut random: Random) -> Vec<Vec<Part>> {
    let mut chains = Vec::new();
    let mut shared = channel(&world.url).await;
    while !world.is_over() {
        let mut recorder = Recorder::new(&world.db, request(&world, &mut random));
        for _ in 0..1 + random.below(6) {
            // Sometimes break the whole connection and not only the stream.
            if random.percent(15) {
                shared = channel(&world.url).await;
            }
            let (limits, channel) = match random.below(150) {
                0 => (
                    ReadLimits { max_duration: STALL * 2, first_pause: STALL, ..ReadLimits::NONE },
                    narrow_channel(&world.url).await,
                ),
                _ => (limits(&mut random), shared.clone()),
            };
            if has_ended(recorder.record_limited(channel, limits).await) {
                break;
            }
        }
        chains.push(recorder.parts);
    }
    chains
}

/// Returns a connection with a small window, so that events that are not read stay with the server.
async fn narrow_channel(url: &str) -> Channel {
    let endpoint = Channel::from_shared(url.to_owned()).unwrap();
    endpoint.initial_stream_window_size(16 * 1024).connect().await.unwrap()
}

fn has_ended(part: &Part) -> bool {
    // A snapshot that broke off has no cursor to resume from, so it starts over.
    part.end != PartEnd::Cut || part.last_position().is_none() && part.request.after_position.is_none()
}

fn limits(random: &mut Random) -> ReadLimits {
    ReadLimits {
        messages: if random.percent(5) { 5_000 } else { 1 + random.below(60) },
        max_duration: Duration::from_millis(20 + random.below(500) as u64),
        pause: Duration::from_millis(if random.percent(20) { random.below(20) as u64 } else { 0 }),
        first_pause: Duration::ZERO,
    }
}

fn request(world: &World, random: &mut Random) -> SubscribeEventsRequest {
    let (newest, removed) = newest_and_removed(&world.db);
    let (run_id, task_id) = world.run(random);
    let run_id = if random.percent(35) { String::new() } else { run_id };
    let of_one_run = !run_id.is_empty();
    let (after_position, start) = match random.below(20) {
        0 => (Some(0), SubscribeStart::Unspecified),
        1..=3 => (Some(newest), SubscribeStart::Unspecified),
        4 => (Some(newest + 1), SubscribeStart::Unspecified),
        5..=7 => (Some(removed), SubscribeStart::Unspecified),
        8 => (Some(i64::MAX), SubscribeStart::Unspecified),
        9..=11 => (Some(newest - random.below(200).min(newest as usize) as i64), SubscribeStart::Unspecified),
        12..=14 => (None, SubscribeStart::FromBeginning),
        15..=16 if of_one_run => (None, SubscribeStart::FromSnapshot),
        _ => (None, SubscribeStart::FromNow),
    };
    let kinds = match random.below(4) {
        0 => vec!["note_*".into()],
        1 => vec!["tool".into(), "run_*".into()],
        _ => vec![],
    };
    SubscribeEventsRequest {
        run_id,
        after_position,
        start: start.into(),
        kinds,
        task_id: Some(task_id).filter(|_| random.percent(10)),
        sources: if random.percent(10) { vec!["worker".into()] } else { vec![] },
        bookmark_interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..unset()
    }
}

/// Ends all runs. A live watcher of a run must get its end, whatever happened to the run before.
async fn end_all(world: &World, client: &Client) -> Vec<Vec<Part>> {
    let runs = world.runs.lock().unwrap().clone();
    let mut watching = JoinSet::new();
    for (run_id, _) in runs.clone() {
        let mut recorder = Recorder::new(&world.db, SubscribeEventsRequest { run_id, ..unset() });
        let channel = channel(&world.url).await;
        watching.spawn(async move {
            assert_eq!(soon(recorder.record(channel, |_| false)).await.end, PartEnd::Finished);
            recorder.parts
        });
    }
    for (run_id, _) in runs {
        set_status(client, &run_id, RunStatus::Completed).await;
        append(client, &run_id, vec![event("late"); 3]).await;
    }
    watching.join_all().await
}

/// Counts of what happened. A count that is too small proves nothing.
#[derive(Debug, Default)]
struct Figures {
    events: usize,
    deleted_runs: usize,
    deliveries: usize,
    snapshots: usize,
    bookmarks: usize,
    resumes: usize,
    disconnects: usize,
    in_future: usize,
    compacted: usize,
    compacted_in_the_middle: usize,
    run_deleted_ends: usize,
    run_ended_ends: usize,
}

impl Figures {
    fn of(log: &Log, chains: &[Vec<Part>]) -> Self {
        let deleted_runs = log.events().iter().filter(|event| event.kind == "run_deleted").count();
        let mut figures = Self { events: log.events().len(), deleted_runs, ..Self::default() };
        for chain in chains {
            figures.resumes += chain.len() - 1;
            for part in chain {
                figures.count(part);
            }
        }
        figures
    }

    fn count(&mut self, part: &Part) {
        for message in &part.messages {
            match message {
                Message::Event(_) => self.deliveries += 1,
                Message::Snapshot(_) => self.snapshots += 1,
                Message::Bookmark(_) => self.bookmarks += 1,
                Message::End(end) if end.reason() == EndReason::RunDeleted => self.run_deleted_ends += 1,
                Message::End(end) if end.reason() == EndReason::RunEnded => self.run_ended_ends += 1,
                Message::CaughtUp(_) | Message::End(_) => {}
            }
        }
        match &part.end {
            PartEnd::Cut => self.disconnects += 1,
            PartEnd::Refused { reason: Reason::PositionInFuture, .. } => self.in_future += 1,
            PartEnd::Refused { reason: Reason::PositionCompacted, .. } => {
                self.compacted += 1;
                self.compacted_in_the_middle += usize::from(!part.messages.is_empty());
            }
            PartEnd::Refused { reason, .. } => {
                assert!([Reason::RunNotFound, Reason::TaskNotFound].contains(reason), "{reason}");
            }
            PartEnd::Finished => {}
        }
    }

    fn print_and_check(&self) {
        print_figures(&format!("random watchers: {self:?}"));
        let enough = [
            ("events", self.events, EVENTS),
            ("deleted runs", self.deleted_runs, 60 / SHARE),
            ("deliveries", self.deliveries, 100_000 / SHARE),
            ("snapshots", self.snapshots, 200 / SHARE),
            ("bookmarks", self.bookmarks, 1_000 / SHARE),
            ("resumes", self.resumes, 5_000 / SHARE),
            ("disconnects", self.disconnects, 10_000 / SHARE),
            ("cursors in the future", self.in_future, 200 / SHARE),
            ("compacted cursors", self.compacted, 200 / SHARE),
            ("overtaken watchers", self.compacted_in_the_middle, 5 / SHARE),
            ("ends of runs", self.run_ended_ends, 100 / SHARE),
        ];
        for (what, count, least) in enough {
            assert!(count >= least, "{count} {what}, expected at least {least}");
        }
    }
}
