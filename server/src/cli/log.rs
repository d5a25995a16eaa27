//! This module writes the log of the server to standard error.

use std::fmt::{self, Debug};
use std::io;

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

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
    // If the program that reads the log has ended or the disk is full, ignore the error. By default, the library would
    // print the error to standard error with `eprintln!`, which panics, and the panic would end the writer thread.
    let log = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let is_colored = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
            log.with_ansi(is_colored).fmt_fields(TextFields).init();
        }
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// The format of the fields of a line and of a span.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = FieldVisitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

/// Writes the fields of a line or of a span, with a blank between two fields.
struct FieldVisitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for FieldVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // The line of a library that uses the crate `log` has fields with the place of the line in the source code.
        if field.name().starts_with("log.") || self.result.is_err() {
            return;
        }
        self.result = self.write_field(field.name(), value);
        self.is_first = false;
    }
}

impl FieldVisitor<'_> {
    /// Writes a field. The value can contain texts of callers, so the function replaces the characters that could
    /// control a terminal.
    fn write_field(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        let value = printable(&format!("{value:?}"));
        if !self.is_first {
            self.writer.write_char(' ')?;
        }
        if name == "message" {
            return self.writer.write_str(&value);
        }
        if self.writer.has_ansi_escapes() {
            let (italic, dim) = (anstyle::Style::new().italic(), super::out::DIM);
            return write!(self.writer, "{italic}{name}{italic:#}{dim}={dim:#}{value}");
        }
        write!(self.writer, "{name}={value}")
    }
}

#[cfg(test)]
mod tests;
