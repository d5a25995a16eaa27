//! Tables and short forms, for people. Colour only on a terminal.

use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use prost_types::Timestamp;
use runhub_api::v1::{ApprovalVerdict, AttemptStatus, RunStatus, TaskStatus};

/// A table with these headings.
pub fn new(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    if anstream::AutoStream::choice(&io::stdout()) == ColorChoice::Never {
        // Neither colours nor a width to fit into: one row stays one line, for grep and awk.
        table.force_no_tty();
    }
    table
}

/// Prints a table, or a word if it is empty.
pub fn print(to: &mut impl Write, table: &mut Table, if_empty: &str) -> io::Result<()> {
    if table.row_iter().next().is_none() {
        return writeln!(to, "{if_empty}");
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    for line in table.lines() {
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A number, to the right.
pub fn number(value: impl ToString) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

/// The first line of a text, cut short on a terminal.
pub fn short(text: &str) -> Cell {
    Cell::new(shorten(text))
}

/// The first line of a text, on a terminal cut to what a column can take. What an agent wrote must not steer the
/// terminal of who reads it: control characters are shown, not sent.
pub fn shorten(text: &str) -> String {
    const CHARS: usize = 60;
    let visible = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    let line: String = text.lines().next().unwrap_or_default().chars().map(visible).collect();
    if !io::stdout().is_terminal() || line.chars().count() <= CHARS {
        return line;
    }
    line.chars().take(CHARS - 1).chain(['…']).collect()
}

/// A time to the second, in UTC.
pub fn time(time: Option<&Timestamp>) -> String {
    match time {
        Some(time) => Timestamp { nanos: 0, ..*time }.to_string().replace('T', " "),
        None => String::new(),
    }
}

/// A time to the second, in UTC, without the year: for lines that follow each other.
pub fn short_time(when: Option<&Timestamp>) -> String {
    time(when).trim_end_matches('Z').split_once('-').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

/// An enum's value without its prefix, small.
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// A run's status, coloured.
pub fn run_status(status: RunStatus) -> Cell {
    let color = match status {
        RunStatus::Running => Color::Cyan,
        RunStatus::Completed => Color::Green,
        RunStatus::Failed | RunStatus::Blocked => Color::Red,
        RunStatus::Paused | RunStatus::Cancelling | RunStatus::Cancelled => Color::Yellow,
        RunStatus::Planning | RunStatus::Unspecified => Color::Reset,
    };
    Cell::new(word(status.as_str_name(), "RUN_STATUS_")).fg(color)
}

/// A task's status, coloured.
pub fn task_status(status: TaskStatus) -> Cell {
    let color = match status {
        TaskStatus::InProgress => Color::Cyan,
        TaskStatus::Completed => Color::Green,
        TaskStatus::Blocked => Color::Red,
        TaskStatus::Abandoned => Color::DarkGrey,
        TaskStatus::Pending | TaskStatus::Unspecified => Color::Reset,
    };
    Cell::new(word(status.as_str_name(), "TASK_STATUS_")).fg(color)
}

/// An attempt's status.
pub fn attempt_status(status: AttemptStatus) -> Cell {
    Cell::new(word(status.as_str_name(), "ATTEMPT_STATUS_"))
}

/// An approval's verdict.
pub fn verdict(verdict: ApprovalVerdict) -> Cell {
    Cell::new(word(verdict.as_str_name(), "APPROVAL_VERDICT_"))
}
