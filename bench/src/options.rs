//! This module defines the command line of `runhub bench`, except for the output format, which the `runhub` binary
//! defines.

use clap::{Args, ValueEnum};

/// The default payload of events: a JSON object with five fields, as long as the payload of a typical agent event.
pub const EXAMPLE_PAYLOAD: &str =
    r#"{"tool":"edit","path":"src/parser/lexer.rs","line":42,"ok":true,"note":"one token of lookahead is enough"}"#;

/// The command-line options that select the result rows, the server, the number of agents and the number of calls.
#[derive(Debug, Args)]
pub struct Options {
    /// The groups of result rows to measure. Default: all groups
    #[arg(value_enum, value_name = "WHAT")]
    groups: Vec<Group>,

    /// The URL of the server to measure. The bench keeps the server busy and leaves runs in the server's database. The
    /// groups growth, idle, backlog, changes, abuse and overload ignore this option and measure servers that the bench
    /// starts. Default: the bench starts a server with a temporary database
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// A PostgreSQL database, as postgres://USER@HOST/DB. The bench creates databases beside this database for the servers
    /// that it starts, and removes them at the end. The user needs the right to create databases. Most rows then have
    /// no target, because their targets are those of SQLite
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    pub store: Option<String>,

    /// The number of agents that append events and claim tasks. Each agent has its own connection
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) agents: u16,

    /// The payload of each event, as JSON. The comparison with SQLite inserts the same payload. Default: an object with
    /// five fields
    #[arg(long, value_name = "JSON", default_value = EXAMPLE_PAYLOAD, hide_default_value = true)]
    pub(crate) payload: String,

    /// Make at most a tenth of the calls, to check that every result row can be measured. The resulting figures are not
    /// accurate
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Options {
    /// Returns the groups to measure, in the order of the measurement.
    pub(crate) fn groups(&self) -> Vec<Group> {
        if !self.groups.is_empty() {
            return self.groups.clone();
        }
        let is_possible = |group: &Group| *group != Group::Store || self.store.is_some();
        Group::value_variants().iter().copied().filter(is_possible).collect()
    }
}

/// A group of result rows that the bench measures together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Measures the rate of AppendEvents with one event per call
    Appends,
    /// Measures the rates of AppendEvents to 64 runs and of AppendEvents with request_ids
    Variants,
    /// Measures the rate of AppendEvents with 100 events per call
    Batches,
    /// Measures the rate of ClaimTask and CompleteTask
    Claims,
    /// Measures the latency of one append call, and the time from an append call until 100 watchers receive the event
    Delays,
    /// Measures the rate of AppendEvents while 20 or 100 watchers receive every event
    Watchers,
    /// Compares the latencies of calls on a log of 1,000,000 events and on a log of 1,000 events
    Growth,
    /// Measures the time from the completion of a task until a waiting claim returns the dependent task
    Wake,
    /// Measures the time from the first append call until 100 watchers have received all events, with and without
    /// another watcher that never reads
    Slow,
    /// Measures the memory of an idle server, and the time that a server needs to start
    Idle,
    /// Measures the latency of heartbeats while agents poll tasks that they can't claim, and of claims beside such
    /// tasks
    Backlog,
    /// Measures the latency of heartbeats during one change of 50,000 tasks, and calls that extend a chain of 20,000
    /// tasks
    Changes,
    /// Measures the latency of calls, and the peak memory, while other clients misbehave: they send frames without
    /// pause, open many connections, send incomplete requests, or do not read responses
    Abuse,
    /// Measures the rate and the latencies of calls, and the peak memory, while the server is overloaded
    Overload,
    /// Compares the rates and latencies on PostgreSQL with those on SQLite, and those of two servers with those of one.
    /// Needs the option --store
    Store,
}

impl Group {
    /// Returns whether the targets of the group's result rows also apply to servers on PostgreSQL.
    pub(crate) fn has_targets_on_postgres(self) -> bool {
        matches!(self, Self::Growth | Self::Store)
    }
}
