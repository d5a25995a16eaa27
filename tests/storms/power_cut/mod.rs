//! The power is cut under load: the disk forgets what was not synced, every acknowledged write is there, and the
//! streams have no gap.

mod check;
mod load;
mod undo;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use runhub_client::v1::*;
use tokio::task::JoinSet;

use self::check::{Told, check_after_restart, check_streams, lost_events};
use self::load::{Answer, Call, create_run};
use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::dump::integrity;
use crate::support::faults::{Faults, Loss, Survivors};
use crate::support::random::Random;
use crate::support::record::{Recorder, committed_log};
use crate::support::{channel, print_figures, until};

/// Number of power cuts under load. `RUNHUB_POWER_CUTS` sets another number.
const DEFAULT_ROUNDS: usize = 20;
/// Number of first starts in which the power is cut. `RUNHUB_POWER_CUTS` sets another number.
const DEFAULT_FIRST_STARTS: usize = 50;
/// Number of rounds after which the test starts with an empty folder.
const ROUNDS_PER_DATABASE: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn power_cut_loses_no_acknowledged_write_and_no_seen_event() {
    let (rounds, mut random) = begin("power cut", DEFAULT_ROUNDS);
    let mut figures = Figures::default();
    for first in (0..rounds).step_by(ROUNDS_PER_DATABASE) {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::new(folder.path());
        cut_power_during_start(&faults, &faults.db(), &mut random, &mut figures);
        let server = faults.start();
        let database = Database::create(faults, &server).await;
        database.live(server, ROUNDS_PER_DATABASE.min(rounds - first), &mut random, &mut figures).await;
    }
    print_figures(&format!("power cut: {figures:?}"));
    assert!(figures.answers > rounds * 10, "too few answers");
    assert!(figures.lost_sectors > 0, "no power cut lost anything");
    assert!(figures.checkpoints > 0, "no checkpoint ran");
}

/// The control run: without syncs, the same power cut must lose acknowledged writes. Otherwise the test above would
/// prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn power_cut_without_syncs_loses_acknowledged_writes() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::new(folder.path());
    let mut random = Random::new(random_seed() as u64);
    let server = faults.start();
    let run_id = new_run(&server.connect().await).await.id;
    faults.ignore_syncs();
    let mut clients = load::start(async || server.connect().await, &run_id, 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.kill();
    let mut told = Told::default();
    while let Some(calls) = clients.join_next().await {
        told.add(&calls.unwrap());
    }
    faults.cut_power(Survivors::None, &mut random);
    let server = faults.start();
    let lost = lost_events(&committed_log(faults.db()), &told);
    print_figures(&format!("power cut without syncs: {} of {} events are lost", lost.len(), told.events.len()));
    assert!(!lost.is_empty(), "the library does not see what SQLite writes, or does not undo it");
    // The run was acknowledged before the syncs were ignored.
    assert_eq!(get_run(&server.connect().await, &run_id).await.id, run_id);
}

/// At its first start, a server creates a database, or changes a restored database so that it uses a write-ahead log.
#[tokio::test(flavor = "multi_thread")]
async fn power_cut_during_the_first_start_is_harmless() {
    let (rounds, mut random) = begin("power cut during the first start", DEFAULT_FIRST_STARTS);
    let mut figures = Figures::default();
    for _ in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::new(folder.path());
        let [backup, restored] = ["backup.db", "restored.db"].map(|name| faults.db().with_file_name(name));
        cut_power_during_start(&faults, &faults.db(), &mut random, &mut figures);
        let server = faults.start();
        let run_id = new_run(&server.connect().await).await.id;
        faults.run(&["backup", backup.to_str().unwrap(), "--db", faults.db().to_str().unwrap()]);
        faults.run(&["restore", backup.to_str().unwrap(), "--db", restored.to_str().unwrap()]);
        server.kill();
        cut_power_during_start(&faults, &restored, &mut random, &mut figures);
        let server = faults.start_on(&restored);
        assert_eq!(get_run(&server.connect().await, &run_id).await.id, run_id);
        faults.assert_no_reported_loss();
    }
    print_figures(&format!("power cut during the first start: {figures:?}"));
    assert!(figures.lost_sectors + figures.lost_names > 0, "no power cut lost anything");
}

/// SQLite does not wait until the removal of the log is on disk. After the power cut, the log is there again.
#[tokio::test(flavor = "multi_thread")]
async fn power_cut_after_a_stop_loses_nothing() {
    for survivors in [Survivors::None, Survivors::Random] {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::new(folder.path());
        let server = faults.start();
        let run_id = new_run(&server.connect().await).await.id;
        server.terminate();
        assert!(server.wait().await);
        faults.cut_power(survivors, &mut Random::new(random_seed() as u64));
        assert_eq!(integrity(&faults.db()), "ok");
        let server = faults.start();
        assert_eq!(get_run(&server.connect().await, &run_id).await.id, run_id);
        faults.assert_no_reported_loss();
    }
}

/// The commands for database files report success only when the new file is on disk under its name.
#[tokio::test(flavor = "multi_thread")]
async fn power_cut_after_a_backup_and_a_restore_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::new(folder.path());
    let server = faults.start();
    let run_id = new_run(&server.connect().await).await.id;
    let [db, backup, restored] =
        ["runhub.db", "backup.db", "restored.db"].map(|name| faults.db().with_file_name(name).display().to_string());
    faults.run(&["backup", &backup, "--db", &db]);
    faults.run(&["restore", &backup, "--db", &restored]);
    server.kill();
    faults.cut_power(Survivors::None, &mut Random::new(1));
    for file in [&backup, &restored] {
        assert_eq!(integrity(Path::new(file)), "ok");
        let server = faults.start_on(Path::new(file));
        assert_eq!(get_run(&server.connect().await, &run_id).await.id, run_id);
        server.kill();
        // The first start has changed the files of the database, without a call.
        faults.cut_power(Survivors::None, &mut Random::new(1));
        let server = faults.start_on(Path::new(file));
        assert_eq!(get_run(&server.connect().await, &run_id).await.id, run_id);
    }
    faults.assert_no_reported_loss();
}

#[derive(Debug, Default)]
struct Figures {
    power_cuts: usize,
    answers: usize,
    deliveries: usize,
    lost_sectors: usize,
    lost_names: usize,
    checkpoints: usize,
}

/// A database, and what its clients know of it.
struct Database {
    faults: Faults,
    run_id: String,
    told: Told,
    watchers: Vec<Recorder>,
}

impl Database {
    async fn create(faults: Faults, server: &Binary) -> Self {
        let request = create_run("run");
        let answer = request.send(&server.connect().await).await.unwrap();
        let Answer::Created(run) = &answer else { panic!("{answer:?}") };
        let run_id = run.id.clone();
        let requests = [String::new(), run_id.clone()].map(|run_id| SubscribeEventsRequest { run_id, ..unset() });
        let watchers = requests.map(|request| Recorder::new(faults.db(), request)).into();
        let mut told = Told::default();
        told.add(&[Call { request, answer: Some(answer) }]);
        Self { faults, run_id, told, watchers }
    }

    /// Cuts the power `rounds` times under load, and checks after each time what the clients were told.
    async fn live(mut self, mut server: Binary, rounds: usize, random: &mut Random, figures: &mut Figures) {
        for round in 0..rounds {
            let calls = self.work_until_power_cut(server, round, random, figures).await;
            if random.percent(30) {
                cut_power_during_start(&self.faults, &self.faults.db(), random, figures);
            }
            assert_eq!(integrity(&self.faults.db()), "ok");
            server = self.faults.start();
            let client = server.connect().await;
            for calls in &calls {
                self.told.add(calls);
                figures.answers += calls.len() - 1;
            }
            check_after_restart(&client, &self.faults.db(), &calls, &mut self.told).await;
        }
        self.faults.assert_no_reported_loss();
        let url = format!("http://{}", server.address);
        figures.deliveries += check_streams(&url, &self.faults.db(), self.watchers, &self.told).await;
    }

    /// Starts clients and watchers, and cuts the power at a random moment. Returns the calls of each client.
    async fn work_until_power_cut(
        &mut self,
        server: Binary,
        round: usize,
        random: &mut Random,
        figures: &mut Figures,
    ) -> Vec<Vec<Call>> {
        let mut watching = JoinSet::new();
        for mut watcher in std::mem::take(&mut self.watchers) {
            let channel = channel(&format!("http://{}", server.address)).await;
            watching.spawn(async move {
                watcher.record(channel, |_| false).await;
                watcher
            });
        }
        let checkpoints_before = checkpoints(&self.faults);
        let clients = load::start(async || server.connect().await, &self.run_id, round).await;
        if round == 0 {
            until(async || checkpoints(&self.faults) > checkpoints_before).await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(600) as u64)).await;
        if random.percent(20) {
            // The power is also cut while the server shuts down, or right after.
            server.terminate();
            tokio::time::sleep(Duration::from_millis(random.below(150) as u64)).await;
        } else if random.percent(70) {
            // On a busy machine, few random moments would be between a write and its sync.
            until(async || self.faults.has_unsynced_changes()).await;
        }
        server.kill();
        let calls = clients.join_all().await;
        self.watchers = watching.join_all().await;
        figures.checkpoints += checkpoints(&self.faults).saturating_sub(checkpoints_before);
        figures.add(self.faults.cut_power(Survivors::choose(random), random));
        calls
    }
}

impl Figures {
    fn add(&mut self, loss: Loss) {
        self.power_cuts += 1;
        self.lost_sectors += loss.sectors;
        self.lost_names += loss.names;
    }
}

/// Starts a server, and cuts the power at a random moment, usually before the server listens.
fn cut_power_during_start(faults: &Faults, db: &Path, random: &mut Random, figures: &mut Figures) {
    let mut server = faults.command_on(db).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(random.below(80) as u64));
    server.kill().unwrap();
    server.wait().unwrap();
    figures.add(faults.cut_power(Survivors::choose(random), random));
}

/// Returns how many times SQLite has restarted the write-ahead log after a checkpoint, or 0 if there is no log, because
/// a server that shuts down removes it. The header of the log has the number at offset 12.
fn checkpoints(faults: &Faults) -> usize {
    let log = std::fs::read(faults.db().with_extension("db-wal")).unwrap_or_default();
    log.get(12..16).map_or(0, |number| u32::from_be_bytes(number.try_into().unwrap()) as usize)
}

/// Returns the number of rounds and the random numbers of a test, and prints how to repeat the test.
fn begin(test: &str, default_rounds: usize) -> (usize, Random) {
    let rounds = number("RUNHUB_POWER_CUTS").unwrap_or(default_rounds);
    let seed = number("RUNHUB_POWER_CUT_SEED").unwrap_or_else(random_seed);
    print_figures(&format!("{test}: {rounds} rounds, RUNHUB_POWER_CUT_SEED={seed}"));
    (rounds, Random::new(seed as u64))
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn random_seed() -> usize {
    (RandomState::new().hash_one(0) % 1_000_000) as usize
}
