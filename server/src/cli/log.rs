//! This module writes the log of the server to standard error.

use std::fmt::{self, Debug};
use std::io;

use clap::ValueEnum;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::Failure;
use super::out::printable::printable;

/// The format of the log.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Write the log as text for people.
    Text,
    /// Write the log as one JSON object per line.
    Json,
}

/// Starts the log. Fails if `filter` is invalid.
pub fn start(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| Failure::usage(format!("--log: {error}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let is_colored = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
            log.with_ansi(is_colored).fmt_fields(text_fields()).init();
        }
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Returns the format of the fields of a line of text.
fn text_fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(write_field).delimited(" ")
}

/// Writes a field of a line or of a span. The value can contain texts of callers, so the function replaces the
/// characters that could control a terminal.
fn write_field(to: &mut Writer, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = printable(&format!("{value:?}"));
    match field.name() {
        "message" => write!(to, "{value}"),
        name if to.has_ansi_escapes() => {
            let (italic, dim) = (anstyle::Style::new().italic(), super::out::DIM);
            write!(to, "{italic}{name}{italic:#}{dim}={dim:#}{value}")
        }
        name => write!(to, "{name}={value}"),
    }
}

#[cfg(test)]
mod tests;
