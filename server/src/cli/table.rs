//! This module formats tables and values for people. Colors appear only on a terminal.

use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets};
use prost_types::Timestamp;
use runhub_api::v1::{ApprovalVerdict, AttemptStatus, RunStatus, TaskStatus};

/// The style of emphasized parts of a line.
pub const BOLD: Style = Style::new().bold();
/// The style of secondary parts of a line.
pub const DIM: Style = Style::new().dimmed();

/// The headings of columns that never wrap, because an id that is split over two lines can't be copied.
const UNBROKEN: [&str; 6] = ["RUN", "TASK", "APPROVAL", "ARTIFACT", "STATUS", "VERDICT"];

/// Returns an empty table with the passed headings.
pub fn new(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    for (column, _) in table.column_iter_mut().zip(headings).filter(|(_, heading)| UNBROKEN.contains(heading)) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    if anstream::AutoStream::choice(&io::stdout()) == ColorChoice::Never {
        // If the output has no colors, the table has no maximum width. Each row then stays on one line for tools such
        // as grep and awk.
        table.force_no_tty();
    }
    table
}

/// Prints a table. If the table has no rows, the function prints the text `if_empty` instead. Fails if the output can't
/// be written.
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

/// Returns a right-aligned cell with a value.
pub fn number_cell(value: impl ToString) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

/// Returns a cell with the shortened form of a text.
pub fn short_cell(text: &str) -> Cell {
    Cell::new(shorten(text))
}

/// Returns a cell with the shortened form of a text, or with a dash if the text is empty.
pub fn short_or_dash_cell(text: &str) -> Cell {
    short_cell(if text.is_empty() { "-" } else { text })
}

/// Returns the first line of a text. Replaces control characters and characters that change the writing direction, so
/// that text from an agent can't control the reader's terminal.
pub fn sanitize(text: &str) -> String {
    let first_line = text.lines().next().unwrap_or_default();
    first_line.chars().map(|letter| if controls_terminal(letter) { '\u{fffd}' } else { letter }).collect()
}

fn controls_terminal(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the first line of a text, with unsafe control characters replaced. If standard output is a terminal, the
/// line is cut to 60 characters.
pub fn shorten(text: &str) -> String {
    const CHARS: usize = 60;
    let line = sanitize(text);
    if !io::stdout().is_terminal() || line.chars().count() <= CHARS {
        return line;
    }
    line.chars().take(CHARS - 1).chain(['…']).collect()
}

/// Formats a time in UTC, with a precision of one second. Returns an empty string if there is no time.
pub fn format_time(time: Option<&Timestamp>) -> String {
    match time {
        Some(time) => Timestamp { nanos: 0, ..*time }.to_string().replace('T', " "),
        None => String::new(),
    }
}

/// Formats a time for event lines, in UTC, with a precision of one second and without the year. Returns an empty string
/// if there is no time.
pub fn format_short_time(when: Option<&Timestamp>) -> String {
    format_time(when).trim_end_matches('Z').split_once('-').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

/// Formats a time as `format_short_time` does, followed by `Z` for the time zone. Returns an empty string if there is
/// no time.
pub fn format_end_time(when: Option<&Timestamp>) -> String {
    when.map(|when| format!("{}Z", format_short_time(Some(when)))).unwrap_or_default()
}

/// Returns the name of an enum value in lower case, without the prefix of the enum.
pub fn lowercase_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// Returns a cell with the status of a run, in the color of the status.
pub fn run_status_cell(status: RunStatus) -> Cell {
    let color = match status {
        RunStatus::Running => Color::Cyan,
        RunStatus::Completed => Color::Green,
        RunStatus::Failed | RunStatus::Blocked => Color::Red,
        RunStatus::Paused | RunStatus::Cancelling | RunStatus::Cancelled => Color::Yellow,
        RunStatus::Planning | RunStatus::Unspecified => Color::Reset,
    };
    Cell::new(lowercase_name(status.as_str_name(), "RUN_STATUS_")).fg(color)
}

/// Returns a cell with the status of a task, in the color of the status.
pub fn task_status_cell(status: TaskStatus) -> Cell {
    let color = match status {
        TaskStatus::InProgress => Color::Cyan,
        TaskStatus::Completed => Color::Green,
        TaskStatus::Blocked => Color::Red,
        TaskStatus::Abandoned => Color::DarkGrey,
        TaskStatus::Pending | TaskStatus::Unspecified => Color::Reset,
    };
    Cell::new(lowercase_name(status.as_str_name(), "TASK_STATUS_")).fg(color)
}

/// Returns a cell with the status of an attempt.
pub fn attempt_status_cell(status: AttemptStatus) -> Cell {
    Cell::new(lowercase_name(status.as_str_name(), "ATTEMPT_STATUS_"))
}

/// Returns a cell with the verdict on an approval, in the color of the verdict.
pub fn verdict_cell(verdict: ApprovalVerdict) -> Cell {
    let color = match verdict {
        ApprovalVerdict::Pending => Color::Magenta,
        ApprovalVerdict::Approved => Color::Green,
        ApprovalVerdict::Rejected => Color::Red,
        ApprovalVerdict::ChangesRequested => Color::Yellow,
        ApprovalVerdict::Expired | ApprovalVerdict::Cancelled => Color::DarkGrey,
        ApprovalVerdict::Unspecified => Color::Reset,
    };
    Cell::new(lowercase_name(verdict.as_str_name(), "APPROVAL_VERDICT_")).fg(color)
}

/// Returns the text style for the verdict on a decided approval.
pub fn verdict_style(verdict: ApprovalVerdict) -> Style {
    let color = match verdict {
        ApprovalVerdict::Approved => AnsiColor::Green,
        ApprovalVerdict::Rejected => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    BOLD.fg_color(Some(color.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_an_agent_cannot_control_the_terminal() {
        assert_eq!(sanitize("a\u{1b}[2Jb\u{7}\u{9b}\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(sanitize("Prüfe → ja"), "Prüfe → ja");
    }

    #[test]
    fn end_time_is_short_and_in_utc() {
        let time = Timestamp { seconds: 1_800_000_000, nanos: 5 };
        assert_eq!(format_end_time(Some(&time)), "01-15 08:00:00Z");
        assert_eq!(format_end_time(None), "");
    }
}
