//! This module compares a server on PostgreSQL with a server on SQLite, and two servers on one PostgreSQL database with
//! one server. All servers run on the same machine as PostgreSQL.

use std::sync::Arc;
use std::time::Instant;

use tonic::Status;

use crate::appends::{AppendCalls, BATCH_CALLERS, EVENTS_PER_BATCH};
use crate::bench::Bench;
use crate::claims::ClaimCalls;
use crate::load::{self, EmptyCalls, Load, RepeatedCall};
use crate::own_server::{OwnServer, ServerDatabase};
use crate::row::{Row, Target};
use crate::sample::Sample;
use crate::{Error, wake};

/// Targets: ratios of the figures on PostgreSQL to the figures on SQLite.
const MIN_RATIO_OF_APPENDS: f64 = 0.7;
const MIN_RATIO_OF_BATCHES: f64 = 0.4;
const MIN_RATIO_OF_CLAIMS: f64 = 0.25;
const MAX_RATIO_OF_ONE_APPEND: f64 = 2.0;

/// Target: the minimum ratio of the AppendEvents rate to the rate of empty calls (GetServerInfo).
const MIN_SHARE_OF_EMPTY_CALL: f64 = 0.4;
/// Target: the minimum ratio of the AppendEvents rate of two servers together to the rate of one server.
const MIN_RATIO_OF_TWO_SERVERS: f64 = 0.6;
/// Target: the maximum p99 of the time from a completion on one server until a claim on the other server returns, in
/// milliseconds.
const MAX_MILLIS_TO_WAKE: f64 = 25.0;

const TASKS: usize = 16_000;
/// Number of calls of one caller between two changes of the measured server.
const CALLS_PER_BLOCK: usize = 100;
const BLOCKS: usize = 10;

/// Two servers on one PostgreSQL database, and a server on SQLite.
struct Servers {
    one: Bench,
    other_url: String,
    sqlite: Bench,
    _processes: [OwnServer; 3],
}

/// Measures the result rows of the group. Fails without the option `--store`, if a server can't be started, or if a call
/// fails.
pub async fn measure_store(bench: &Bench) -> Result<Vec<Row>, Error> {
    if !bench.is_on_postgres() {
        return Err(Error::NoStore);
    }
    let servers = Servers::start(bench).await?;
    let mut rows = servers.measure_appends().await?;
    rows.push(servers.measure_batches().await?);
    rows.push(servers.measure_claims().await?);
    rows.push(servers.measure_one_caller().await?);
    rows.push(servers.measure_two_servers().await?);
    rows.push(servers.measure_wake_ups().await?);
    Ok(rows)
}

impl Servers {
    async fn start(bench: &Bench) -> Result<Self, Error> {
        let shared = bench.create_database()?;
        let one = OwnServer::start(bench.program(), Arc::clone(&shared))?;
        let other = OwnServer::start(bench.program(), shared)?;
        let sqlite = OwnServer::start(bench.program(), Arc::new(ServerDatabase::create(None)?))?;
        let servers = Self {
            one: bench.connect_to_server(&one.url).await?,
            other_url: other.url.clone(),
            sqlite: bench.connect_to_server(&sqlite.url).await?,
            _processes: [one, other, sqlite],
        };
        servers.one.warm_up().await?;
        servers.sqlite.warm_up().await?;
        Ok(servers)
    }

    async fn measure_appends(&self) -> Result<Vec<Row>, Error> {
        let callers = self.one.agents;
        let on_postgres = Arc::new(AppendCalls::new(&self.one, callers).await?);
        let on_sqlite = Arc::new(AppendCalls::new(&self.sqlite, callers).await?);
        let empty_calls = Arc::new(EmptyCalls(on_postgres.connections.clone()));
        self.one.start_progress("appends", 4 * self.one.short_rounds());
        let (sqlite, appends) = self.one.alternate(&on_sqlite, &on_postgres, callers).await?;
        let name = format!("PostgreSQL: AppendEvents, one event per call, {callers} in flight; vs. SQLite");
        let compared = Row::rate(name, "/s", &appends).with_ceiling(sqlite.calls_per_second());
        let (empty, appends) = self.one.alternate(&empty_calls, &on_postgres, callers).await?;
        let name = format!("PostgreSQL: AppendEvents, one event per call, {callers} in flight; vs. the empty call");
        let share = Row::rate(name, "/s", &appends).with_ceiling(empty.calls_per_second());
        Ok(vec![
            compared.with_target(Target::AtLeast(MIN_RATIO_OF_APPENDS)),
            share.with_target(Target::AtLeast(MIN_SHARE_OF_EMPTY_CALL)),
        ])
    }

    async fn measure_batches(&self) -> Result<Row, Error> {
        let on_postgres = AppendCalls::new_batches(&self.one).await?;
        let on_sqlite = AppendCalls::new_batches(&self.sqlite).await?;
        self.one.start_progress("batches", 2 * self.one.short_rounds());
        let (sqlite, measured) = self.one.alternate(&on_sqlite, &on_postgres, BATCH_CALLERS).await?;
        let events_per_second = |load: &Load| load.calls_per_second() * EVENTS_PER_BATCH as f64;
        let name = "PostgreSQL: AppendEvents, 100 events per call, 16 callers; vs. SQLite";
        let row = Row::new(name, "events/s", events_per_second(&measured)).with_times(&measured.times);
        Ok(row.with_ceiling(events_per_second(&sqlite)).with_target(Target::AtLeast(MIN_RATIO_OF_BATCHES)))
    }

    async fn measure_claims(&self) -> Result<Row, Error> {
        let tasks = self.one.scale_count(TASKS);
        let on_postgres = Arc::new(ClaimCalls::new(&self.one, tasks).await?);
        let on_sqlite = Arc::new(ClaimCalls::new(&self.sqlite, tasks).await?);
        self.one.start_progress("claims", 2 * self.one.short_rounds());
        let sqlite_round = async || on_sqlite.run_round(&self.sqlite).await;
        let postgres_round = async || on_postgres.run_round(&self.one).await;
        let (sqlite, measured) = self.one.alternate_rounds(sqlite_round, postgres_round).await?;
        let name = format!("PostgreSQL: claim + complete, {} agents; vs. SQLite", self.one.agents);
        let row = Row::rate(name, "pairs/s", &measured).with_ceiling(sqlite.calls_per_second());
        Ok(row.with_target(Target::AtLeast(MIN_RATIO_OF_CLAIMS)))
    }

    async fn measure_one_caller(&self) -> Result<Row, Error> {
        let on_postgres = AppendCalls::new(&self.one, 1).await?;
        let on_sqlite = AppendCalls::new(&self.sqlite, 1).await?;
        let blocks = self.one.scale_count(BLOCKS);
        self.one.start_progress("one caller", 2 * blocks);
        let mut sqlite = Sample::new()?;
        let mut measured = Sample::new()?;
        for _ in 0..blocks {
            time_calls(&on_sqlite, &mut sqlite).await?;
            self.one.advance(1);
            time_calls(&on_postgres, &mut measured).await?;
            self.one.advance(1);
        }
        let row = Row::p50("PostgreSQL: one durable append by one caller; vs. SQLite", &measured);
        Ok(row.with_ceiling(sqlite.percentile(50)).with_target(Target::AtMost(MAX_RATIO_OF_ONE_APPEND)))
    }

    async fn measure_two_servers(&self) -> Result<Row, Error> {
        let callers = self.one.agents;
        let of_one = Arc::new(AppendCalls::new(&self.one, callers).await?);
        let mut of_two = AppendCalls::new(&self.one, callers / 2).await?;
        of_two.connections.extend(load::open_connections(&self.other_url, callers - callers / 2).await?);
        let of_two = Arc::new(of_two);
        self.one.start_progress("two servers", 2 * self.one.short_rounds());
        let (one, two) = self.one.alternate(&of_one, &of_two, callers).await?;
        let name = format!("PostgreSQL: AppendEvents on two servers together, {callers} in flight; vs. one server");
        let row = Row::rate(name, "/s", &two).with_ceiling(one.calls_per_second());
        Ok(row.with_target(Target::AtLeast(MIN_RATIO_OF_TWO_SERVERS)))
    }

    async fn measure_wake_ups(&self) -> Result<Row, Error> {
        let times = wake::measure_wake_times(&self.one, &self.other_url).await?;
        let row = Row::p99("PostgreSQL: claim woken by a completion on another server", &times);
        Ok(row.with_target(Target::AtMost(MAX_MILLIS_TO_WAKE)))
    }
}

async fn time_calls(calls: &AppendCalls, times: &mut Sample) -> Result<(), Status> {
    for _ in 0..CALLS_PER_BLOCK {
        let started = Instant::now();
        calls.call(0).await?;
        times.record(started.elapsed());
    }
    Ok(())
}
