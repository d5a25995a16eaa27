//! The command line of `runhub bench`, except for how the rows are printed.

use clap::{Args, ValueEnum};

/// A payload with five fields, as long as a typical agent's.
pub const EXAMPLE_PAYLOAD: &str =
    r#"{"tool":"edit","path":"src/parser/lexer.rs","line":42,"ok":true,"note":"one token of lookahead is enough"}"#;

/// The options that select the rows, the server and the number of agents.
#[derive(Debug, Args)]
pub struct Options {
    /// The groups of rows to measure. Default: all groups
    #[arg(value_enum, value_name = "WHAT")]
    groups: Vec<Group>,

    /// The server to measure. The bench keeps it busy and leaves a few runs in it. Default: the bench starts a server on a
    /// temporary file. Growth, idle and overload always use servers that the bench starts
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Number of agents that append and claim, each on its own connection
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) agents: u16,

    /// The payload of each event, as JSON. SQLite's own inserts use it too
    #[arg(long, value_name = "JSON", default_value = EXAMPLE_PAYLOAD, hide_default_value = true)]
    pub(crate) payload: String,

    /// Do a tenth of the work, to check that every row can be measured. The figures mean little
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Options {
    /// Returns the groups to measure, in order.
    pub(crate) fn groups(&self) -> &[Group] {
        if self.groups.is_empty() { Group::value_variants() } else { &self.groups }
    }
}

/// Rows that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// AppendEvents with one event per call
    Appends,
    /// AppendEvents to many runs, and with request_ids
    Variants,
    /// AppendEvents with 100 events per call
    Batches,
    /// ClaimTask and CompleteTask
    Claims,
    /// The time of one call, and of one event from its call to 100 watchers
    Delays,
    /// AppendEvents while up to 100 watchers receive every event
    Watchers,
    /// Calls on a log with 1,000 times as many events
    Growth,
    /// Waiting claims
    Wake,
    /// 100 watchers, with one more that never reads
    Slow,
    /// Memory of an idle server, and the time until it is ready
    Idle,
    /// More callers than the server can serve
    Overload,
}
