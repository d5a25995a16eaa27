//! The server under measurement, and how much work each row does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runhub_api::{Json, v1};
use runhub_client::Client;
use tempfile::TempDir;

use crate::appends::Appending;
use crate::load::{Load, Until, Work, closed_loop};
use crate::options::{Group, Options};
use crate::own_server::OwnServer;
use crate::row::Row;
use crate::{Error, Host, appends, claims, delays, growth, idle, overload, wake, watchers};

/// A server under measurement, with the settings of the measurement.
pub struct Bench {
    pub url: String,
    pub client: Client,
    /// Holds the databases of the SQLite ceilings, on the same disk as the database of a server that the bench starts.
    pub folder: TempDir,
    pub agents: usize,
    pub event: v1::EventDraft,
    /// The event's payload as the server stores it.
    pub payload: String,
    pub quick: bool,
    host: Arc<Host>,
    /// The server, if the bench started it for this value. Dropping it ends the process.
    _own_server: Option<OwnServer>,
}

impl Bench {
    /// Connects to the server that the options name, or starts one.
    pub async fn start(options: &Options, host: Host) -> Result<Self, Error> {
        let payload = Json::parse(&options.payload).map_err(|error| Error::Payload(error.to_string()))?;
        let own_server = match options.server {
            Some(_) => None,
            None => Some(OwnServer::start(&host.program)?),
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

    /// Returns a bench with the same settings for the server at `url`.
    pub async fn for_server(&self, url: &str) -> Result<Self, Error> {
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

    /// Returns the `runhub` binary.
    pub fn program(&self) -> &Path {
        &self.host.program
    }

    /// Returns the number of calls that a server of that binary has in service before it refuses further ones.
    pub fn max_calls_in_service(&self) -> usize {
        self.host.max_calls_in_service
    }

    /// Starts the progress bar again, for `steps` steps.
    pub fn start_progress(&self, name: &'static str, steps: usize) {
        let progress = &self.host.progress;
        progress.set_length(steps as u64);
        progress.set_position(0);
        progress.set_message(name);
    }

    /// Moves the progress bar by `steps`.
    pub fn advance(&self, steps: usize) {
        self.host.progress.inc(steps as u64);
    }

    /// Removes the progress bar.
    pub fn finish_progress(&self) {
        self.host.progress.finish_and_clear();
    }

    /// Returns `count`, or a tenth of it with `--quick`.
    pub fn scaled(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }

    /// Returns how often the bench alternates between a ceiling and the figure that is compared with it.
    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { 4 }
    }

    /// Returns how long one of two alternating loads lasts in a round.
    pub fn round_end(&self) -> Until {
        Until::Time(Duration::from_millis(if self.quick { 100 } else { 1_500 }))
    }

    /// Runs two loads alternately, so that both see the same state of the machine.
    pub async fn alternate(
        &self,
        ceiling: &Arc<impl Work>,
        measured: &Arc<impl Work>,
        callers: usize,
    ) -> Result<(Load, Load), Error> {
        let mut of_ceiling = Load::new()?;
        let mut of_measured = Load::new()?;
        for _ in 0..self.rounds() {
            of_ceiling.extend(closed_loop(ceiling, self.round_end(), callers).await?);
            self.advance(1);
            of_measured.extend(closed_loop(measured, self.round_end(), callers).await?);
            self.advance(1);
        }
        Ok((of_ceiling, of_measured))
    }

    /// Appends events for one round, because a server that has just started is slower.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let appending = Arc::new(Appending::new(self, self.agents).await?);
        closed_loop(&appending, self.round_end(), self.agents).await.map(drop)
    }

    /// Creates a run and returns its id.
    pub async fn create_run(&self) -> Result<String, Error> {
        let request =
            v1::CreateRunRequest { goal: "bench".to_owned(), repo_path: "bench".to_owned(), ..Default::default() };
        Ok(self.client.create_run(request).await?.run.unwrap_or_default().id)
    }

    /// Measures the rows of one group.
    pub async fn measure(&self, group: Group) -> Result<Vec<Row>, Error> {
        match group {
            Group::Appends => appends::one_event_per_call(self).await,
            Group::Variants => appends::variants(self).await,
            Group::Batches => appends::batches(self).await,
            Group::Claims => claims::claim_and_complete(self).await,
            Group::Delays => delays::rows(self).await,
            Group::Watchers => watchers::while_appending(self).await,
            Group::Growth => growth::rows(self).await,
            Group::Wake => wake::after_completion(self).await,
            Group::Slow => watchers::with_unread_stream(self).await,
            Group::Idle => idle::of_empty_server(self).await,
            Group::Overload => overload::rows(self).await,
        }
    }
}

/// Connects without retries, because a repeated call would be measured as one.
pub async fn connect(url: &str) -> Result<Client, Error> {
    let client =
        Client::connect(url).await.map_err(|cause| Error::Connect { url: url.to_owned(), cause: Box::new(cause) })?;
    Ok(client.without_retry())
}
