//! The load during the faults, and the check of what the load left in the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runhub_client::Client;
use runhub_client::v1::*;
use tokio::task::JoinHandle;

use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::fleet::FailoverClient;
use crate::support::record::{ReadLimits, Recorder, committed_log};
use crate::support::until;

const WRITERS: usize = 16;
const WATCHERS: usize = 4;

/// Number of appends between two faults.
const APPENDS_BETWEEN_FAULTS: usize = 200;

/// Writers and watchers, which use all servers in turn.
pub struct Load {
    writers: Vec<JoinHandle<Written>>,
    writers_end: Arc<AtomicBool>,
    /// Number of acknowledged appends.
    acknowledged: Arc<AtomicUsize>,
    watchers: Vec<JoinHandle<Recorder>>,
    watchers_end: Arc<AtomicBool>,
}

/// The calls of the writers, and the messages of the watchers.
pub struct Done {
    pub written: Written,
    pub watchers: Vec<Recorder>,
}

/// The answers of the servers to one writer, or to several writers together.
#[derive(Default)]
pub struct Written {
    /// The kind of each acknowledged event, with its position.
    pub acknowledged: Vec<(String, i64)>,
    /// Number of calls without a request_id that failed, so that their events may or may not be in the log.
    pub unknown: usize,
    /// Longest time until a call was acknowledged.
    pub longest: Duration,
}

impl Load {
    /// Starts the load on the servers with the addresses.
    pub async fn start(database: &TestDatabase, addresses: &[String]) -> Self {
        let mut clients = Vec::new();
        for address in addresses {
            clients.push(Client::connect(address).await.unwrap().without_retry());
        }
        let run_id = new_run(&clients[0]).await.id;
        let writers_end = Arc::<AtomicBool>::default();
        let watchers_end = Arc::<AtomicBool>::default();
        let acknowledged = Arc::<AtomicUsize>::default();
        let writers = (0..WRITERS).map(|number| {
            let writer = Writer {
                servers: FailoverClient::new(clients.clone(), number),
                run_id: run_id.clone(),
                number,
                is_over: Arc::clone(&writers_end),
                acknowledged: Arc::clone(&acknowledged),
            };
            tokio::spawn(writer.write())
        });
        let writers = writers.collect();
        let watchers = (0..WATCHERS).map(|_| watch(database.clone(), addresses.to_vec(), Arc::clone(&watchers_end)));
        Self { writers, writers_end, acknowledged, watchers: watchers.collect(), watchers_end }
    }

    /// Waits until more appends are acknowledged. Returns the time until the first of them.
    pub async fn go_on(&self) -> Duration {
        let begun = Instant::now();
        let before = self.acknowledged.load(Ordering::Relaxed);
        until(async || self.acknowledged.load(Ordering::Relaxed) > before).await;
        let first = begun.elapsed();
        until(async || self.acknowledged.load(Ordering::Relaxed) > before + APPENDS_BETWEEN_FAULTS).await;
        first
    }

    /// Ends the load. The watchers end a little later than the writers, so that they receive the last events.
    pub async fn stop(self) -> Done {
        self.writers_end.store(true, Ordering::Relaxed);
        let mut written = Written::default();
        for writer in self.writers {
            written.add(writer.await.unwrap());
        }
        self.watchers_end.store(true, Ordering::Relaxed);
        let mut watchers = Vec::new();
        for watcher in self.watchers {
            watchers.push(watcher.await.unwrap());
        }
        Done { written, watchers }
    }
}

impl Done {
    /// Checks the streams, and that each acknowledged event is in the log once and no other event is there twice.
    pub fn check(&self, database: &TestDatabase) {
        self.watchers.iter().for_each(Recorder::check);
        let counts = self.count_events(database);
        let is_lost = |kind: &&String| !counts.contains_key(*kind);
        let lost: Vec<_> = self.written.acknowledged.iter().map(|(kind, _)| kind).filter(is_lost).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }

    /// Returns the number of events of each kind. Fails if an event was appended twice.
    fn count_events(&self, database: &TestDatabase) -> BTreeMap<String, usize> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for event in committed_log(database).events() {
            *counts.entry(event.kind.clone()).or_default() += 1;
        }
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "appended twice: {twice:?}");
        counts
    }

    /// Returns the number of acknowledged events that the database does not contain. Fails if an event was appended
    /// twice.
    pub fn count_lost(&self, database: &TestDatabase) -> usize {
        let counts = self.count_events(database);
        self.written.acknowledged.iter().filter(|(kind, _)| !counts.contains_key(kind)).count()
    }

    /// Returns the number of streams that the watchers have opened.
    pub fn streams(&self) -> usize {
        self.watchers.iter().map(|watcher| watcher.parts.len()).sum()
    }

    /// Returns all positions that a client has seen, each with the kind of its event. Fails if a position has two events.
    pub fn positions(&self) -> BTreeMap<i64, String> {
        let mut kinds: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
        for (kind, position) in &self.written.acknowledged {
            kinds.entry(*position).or_default().insert(kind);
        }
        for event in self.watchers.iter().flat_map(|watcher| &watcher.parts).flat_map(|part| part.events()) {
            kinds.entry(event.position).or_default().insert(&event.kind);
        }
        let twice: Vec<_> = kinds.iter().filter(|(_, kinds)| kinds.len() > 1).collect();
        assert!(twice.is_empty(), "positions of two events: {twice:?}");
        kinds.into_iter().map(|(position, kinds)| (position, kinds.into_iter().collect())).collect()
    }
}

impl Written {
    fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unknown += other.unknown;
        self.longest = self.longest.max(other.longest);
    }
}

/// Appends events until the load ends.
struct Writer {
    servers: FailoverClient,
    run_id: String,
    number: usize,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

impl Writer {
    async fn write(mut self) -> Written {
        let mut written = Written::default();
        let mut appended = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let kind = format!("{}.{appended}", self.number);
            appended += 1;
            let begun = Instant::now();
            match self.append(&kind).await {
                Some(position) => {
                    written.longest = written.longest.max(begun.elapsed());
                    written.acknowledged.push((kind, position));
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                None => written.unknown += 1,
            }
        }
        written
    }

    /// Appends an event, and returns its position. Every second writer repeats the call with its request_id until the call
    /// is answered. The other writers send no request_id and repeat no call: a server must not repeat their calls either,
    /// unless the server knows that it has changed nothing.
    async fn append(&mut self, kind: &str) -> Option<i64> {
        let repeats = self.number.is_multiple_of(2);
        let request_id = if repeats { kind.to_owned() } else { String::new() };
        let request = AppendEventsRequest { run_id: self.run_id.clone(), events: vec![event(kind)], request_id };
        loop {
            let answer = self.servers.call_once(Client::append_events, request.clone()).await;
            if answer.is_some() || !repeats {
                return answer.map(|appended| appended.last_position);
            }
        }
    }
}

/// Follows the whole log, and connects again whenever the stream breaks, each time to the next server.
fn watch(database: TestDatabase, addresses: Vec<String>, is_over: Arc<AtomicBool>) -> JoinHandle<Recorder> {
    tokio::spawn(async move {
        let mut recorder = Recorder::new(&database, SubscribeEventsRequest { after_position: Some(0), ..unset() });
        let mut turn = 0;
        let limits = || ReadLimits { max_duration: Duration::from_millis(1_500), ..ReadLimits::NONE };
        while !is_over.load(Ordering::Relaxed) {
            let address = format!("http://{}", addresses[turn % addresses.len()]);
            turn += 1;
            let channel = tonic::transport::Channel::from_shared(address).unwrap().connect_lazy();
            recorder.record_limited(channel, limits()).await;
        }
        recorder
    })
}
