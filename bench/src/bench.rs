//! This module connects to the measured server and sets the number of calls and rounds for each result row.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runhub_api::{Json, v1};
use runhub_client::Client;
use tempfile::TempDir;

use crate::appends::AppendCalls;
use crate::load::{Load, RepeatedCall, StopCondition, run_closed_loop};
use crate::options::{Group, Options};
use crate::own_server::{OwnServer, ServerDatabase};
use crate::row::Row;
use crate::{
    Error, Host, abuse, appends, backlog, changes, claims, delays, growth, idle, overload, store, wake, watchers,
};

/// A measured server, with the settings of the measurement.
pub struct Bench {
    pub url: String,
    pub client: Client,
    /// A new folder in `std::env::temp_dir()` for the databases that SQLite writes without a server. Servers that the
    /// bench starts also store their databases in `std::env::temp_dir()`, so SQLite uses the same disk.
    pub folder: TempDir,
    pub agents: usize,
    pub event: v1::EventDraft,
    /// The payload of each event as JSON text. The inserts without a server store this text.
    pub payload: String,
    pub quick: bool,
    host: Arc<Host>,
    /// The server process that `start` started. None means that the option `--server` names a server, or that
    /// `connect_to_server` created the bench. Dropping this field kills the process.
    _own_server: Option<OwnServer>,
}

impl Bench {
    /// Connects to the server that the option `--server` names, and returns the bench. If the option is not set, the
    /// function starts a server. Fails if the payload is not JSON, or if the server can't be started or reached.
    pub async fn start(options: &Options, host: Host) -> Result<Self, Error> {
        let payload = Json::parse(&options.payload).map_err(|error| Error::Payload(error.to_string()))?;
        let own_server = match options.server {
            Some(_) => None,
            None => Some(OwnServer::start(&host.program, create_database(&host)?)?),
        };
        let started_url = own_server.as_ref().map(|server| server.url.clone());
        let url = options.server.clone().or(started_url).unwrap_or_default();
        let event = v1::EventDraft {
            source: "agent".to_owned(),
            kind: "tool_used".to_owned(),
            message: "edited a file".to_owned(),
            payload: Some(payload),
            ..Default::default()
        };
        Ok(Self {
            client: connect(&url).await?,
            url,
            folder: tempfile::tempdir()?,
            agents: usize::from(options.agents),
            event,
            payload: options.payload.clone(),
            quick: options.quick,
            host: Arc::new(host),
            _own_server: own_server,
        })
    }

    /// Connects to the server at `url` and returns a bench for that server with the settings of this bench. Fails if
    /// the server can't be reached.
    pub async fn connect_to_server(&self, url: &str) -> Result<Self, Error> {
        Ok(Self {
            url: url.to_owned(),
            client: connect(url).await?,
            folder: tempfile::tempdir()?,
            agents: self.agents,
            event: self.event.clone(),
            payload: self.payload.clone(),
            quick: self.quick,
            host: Arc::clone(&self.host),
            _own_server: None,
        })
    }

    /// Returns the path of the `runhub` binary.
    pub fn program(&self) -> &Path {
        &self.host.program
    }

    /// Returns whether the servers that the bench starts use PostgreSQL.
    pub fn is_on_postgres(&self) -> bool {
        self.host.databases.is_some()
    }

    /// Creates an empty database for servers. Fails if the database can't be created.
    pub fn create_database(&self) -> Result<Arc<ServerDatabase>, Error> {
        create_database(&self.host)
    }

    /// Starts a server with an empty database. Fails if the database can't be created, if the process can't be started,
    /// or if the process prints no address.
    pub fn start_server(&self) -> Result<OwnServer, Error> {
        OwnServer::start(self.program(), self.create_database()?)
    }

    /// Returns the maximum number of calls that a server started by the bench serves at the same time.
    pub fn max_calls_in_service(&self) -> usize {
        self.host.max_calls_in_service
    }

    /// Resets the progress bar to `steps` steps and shows `name` next to the bar.
    pub fn start_progress(&self, name: &'static str, steps: usize) {
        let progress = &self.host.progress;
        progress.set_length(steps as u64);
        progress.set_position(0);
        progress.set_message(name);
    }

    /// Moves the progress bar forward by `steps` steps.
    pub fn advance(&self, steps: usize) {
        self.host.progress.inc(steps as u64);
    }

    /// Removes the progress bar from the terminal.
    pub fn finish_progress(&self) {
        self.host.progress.finish_and_clear();
    }

    /// Returns `count`, or a tenth of `count` with the option `--quick`.
    pub fn scale_count(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }

    /// Returns the number of rounds of a measurement: 4, or 1 with the option `--quick`.
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { 4 }
    }

    /// Returns the time for which the bench counts calls while other callers load the server: 3 s, or 0.3 s with the
    /// option `--quick`.
    pub fn counting_time(&self) -> Duration {
        Duration::from_millis(if self.quick { 300 } else { 3_000 })
    }

    /// Returns the time for which clients misbehave: 6 s, or 45 s if the bench also measures the memory, so that the
    /// server's time limits for these clients pass. With the option `--quick`, the time is a
    /// tenth: 0.6 s or 4.5 s.
    pub fn abuse_time(&self, measures_memory: bool) -> Duration {
        let full = if measures_memory { 45_000 } else { 6_000 };
        Duration::from_millis(if self.quick { full / 10 } else { full })
    }

    /// Returns the number of rounds of a measurement whose rounds end after `short_round`: 12, or 1 with the option
    /// `--quick`. The more often two load tests alternate, the less a change of the machine's speed falls on one of
    /// them.
    pub fn short_rounds(&self) -> usize {
        if self.quick { 1 } else { 12 }
    }

    /// Returns the condition that ends the load test of a short round: 0.75 s have passed, or 0.1 s with the option
    /// `--quick`.
    pub fn short_round(&self) -> StopCondition {
        StopCondition::Time(Duration::from_millis(if self.quick { 100 } else { 750 }))
    }

    /// Alternates between the short rounds of a result row's ceiling and those of the row's value, because the speed of
    /// the machine changes over time. Returns the result for the ceiling, then the result for the value. Fails if a
    /// round fails.
    pub async fn alternate_rounds(
        &self,
        ceiling: impl AsyncFn() -> Result<Load, Error>,
        measured: impl AsyncFn() -> Result<Load, Error>,
    ) -> Result<(Load, Load), Error> {
        let mut of_ceiling = Load::new()?;
        let mut of_measured = Load::new()?;
        for _ in 0..self.short_rounds() {
            of_ceiling.extend(ceiling().await?);
            self.advance(1);
            of_measured.extend(measured().await?);
            self.advance(1);
        }
        Ok((of_ceiling, of_measured))
    }

    /// Alternates between the calls of a result row's ceiling and the calls of the row's value, as `alternate_rounds`
    /// does. Fails if a call fails.
    pub async fn alternate(
        &self,
        ceiling: &Arc<impl RepeatedCall>,
        measured: &Arc<impl RepeatedCall>,
        callers: usize,
    ) -> Result<(Load, Load), Error> {
        let of_ceiling = async || run_closed_loop(ceiling, self.short_round(), callers).await;
        let of_measured = async || run_closed_loop(measured, self.short_round(), callers).await;
        self.alternate_rounds(of_ceiling, of_measured).await
    }

    /// Appends events for one round without recording the latencies, because the first calls to a new server are slower
    /// than later calls. Fails if a call fails.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let append_calls = Arc::new(AppendCalls::new(self, self.agents).await?);
        run_closed_loop(&append_calls, self.short_round(), self.agents).await.map(drop)
    }

    /// Creates a run and returns the id of the run. Fails if the CreateRun call fails.
    pub async fn create_run(&self) -> Result<String, Error> {
        let request =
            v1::CreateRunRequest { goal: "bench".to_owned(), repo_path: "bench".to_owned(), ..Default::default() };
        Ok(self.client.create_run(request).await?.run.unwrap_or_default().id)
    }

    /// Measures one group of result rows and returns the result rows. Fails if a server can't be started, a call fails,
    /// or a temporary file can't be written.
    pub async fn measure(&self, group: Group) -> Result<Vec<Row>, Error> {
        let mut rows = self.measure_rows(group).await?;
        if self.is_on_postgres() && !group.has_targets_on_postgres() {
            rows.iter_mut().for_each(Row::remove_target);
        }
        Ok(rows)
    }

    async fn measure_rows(&self, group: Group) -> Result<Vec<Row>, Error> {
        match group {
            Group::Appends => appends::measure_single_appends(self).await,
            Group::Variants => appends::measure_append_variants(self).await,
            Group::Batches => appends::measure_batches(self).await,
            Group::Claims => claims::measure_claims(self).await,
            Group::Delays => delays::measure_delays(self).await,
            Group::Watchers => watchers::measure_appends_with_watchers(self).await,
            Group::Growth => growth::measure_growth(self).await,
            Group::Wake => wake::measure_wake_ups(self).await,
            Group::Slow => watchers::measure_watchers_with_unread_stream(self).await,
            Group::Idle => idle::measure_empty_server(self).await,
            Group::Backlog => backlog::measure_backlogs(self).await,
            Group::Changes => changes::measure_changes(self).await,
            Group::Abuse => abuse::measure_abuse(self).await,
            Group::Overload => overload::measure_overload(self).await,
            Group::Store => store::measure_store(self).await,
        }
    }
}

fn create_database(host: &Host) -> Result<Arc<ServerDatabase>, Error> {
    ServerDatabase::create(host.databases.as_ref()).map(Arc::new)
}

/// Connects to the server at `url` and returns a client without retries, because the bench would count a retried call
/// as one call. Fails if the server can't be reached.
pub async fn connect(url: &str) -> Result<Client, Error> {
    let client =
        Client::connect(url).await.map_err(|cause| Error::Connect { url: url.to_owned(), cause: Box::new(cause) })?;
    Ok(client.without_retry())
}
