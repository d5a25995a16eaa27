//! This module formats values for people.

use anstyle::{AnsiColor, Style};
use prost_types::Timestamp;
use runhub_api::v1::{ApprovalVerdict, AttemptStatus, RunStatus, TaskStatus};

use super::out::printable::first_line;
use super::out::{self, BOLD, Cell, Color};

/// Returns a right-aligned cell with a value.
pub fn number_cell(value: impl ToString) -> Cell {
    Cell::new(value.to_string()).right()
}

/// Returns a cell with the shortened form of a text.
pub fn short_cell(text: &str) -> Cell {
    Cell::new(shorten(text))
}

/// Returns a cell with the shortened form of a text, or with a dash if the text is empty.
pub fn short_or_dash_cell(text: &str) -> Cell {
    short_cell(if text.is_empty() { "-" } else { text })
}

/// Returns the first line of a text. If standard output is a terminal, the line is cut to 60 characters.
pub fn shorten(text: &str) -> String {
    const CHARS: usize = 60;
    let line = first_line(text);
    if !out::stdout_is_terminal() || line.chars().count() <= CHARS {
        return line.to_owned();
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
    Cell::new(lowercase_name(status.as_str_name(), "RUN_STATUS_")).color(color)
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
    Cell::new(lowercase_name(status.as_str_name(), "TASK_STATUS_")).color(color)
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
    Cell::new(lowercase_name(verdict.as_str_name(), "APPROVAL_VERDICT_")).color(color)
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
    fn end_time_is_short_and_in_utc() {
        let time = Timestamp { seconds: 1_800_000_000, nanos: 5 };
        assert_eq!(format_end_time(Some(&time)), "01-15 08:00:00Z");
        assert_eq!(format_end_time(None), "");
    }
}
