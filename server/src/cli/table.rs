//! Tables and short forms, for people. Colour only on a terminal.

use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets};
use prost_types::Timestamp;
use runhub_api::v1::{ApprovalVerdict, AttemptStatus, RunStatus, TaskStatus};

/// What stands out in a line.
pub const BOLD: Style = Style::new().bold();
/// What stands back in a line.
pub const DIM: Style = Style::new().dimmed();

/// Headings of what is one word, such as an id: one that is broken over two lines can't be copied.
const UNBROKEN: [&str; 6] = ["RUN", "TASK", "APPROVAL", "ARTIFACT", "STATUS", "VERDICT"];

/// A table with these headings.
pub fn new(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    for (column, _) in table.column_iter_mut().zip(headings).filter(|(_, heading)| UNBROKEN.contains(heading)) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
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

/// The same, or a dash where there is no text.
pub fn short_or_dash(text: &str) -> Cell {
    short(if text.is_empty() { "-" } else { text })
}

/// The first line of a text. What an agent wrote must not steer the terminal of who reads it: control characters, and
/// those that turn the direction of writing, are shown, not sent.
pub fn visible(text: &str) -> String {
    let steers =
        |letter: char| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let first = text.lines().next().unwrap_or_default();
    first.chars().map(|letter| if steers(letter) { '\u{fffd}' } else { letter }).collect()
}

/// The first line of a text, made visible, on a terminal cut to what a column can take.
pub fn shorten(text: &str) -> String {
    const CHARS: usize = 60;
    let line = visible(text);
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

/// When something ends: short, but of no doubtful time zone.
pub fn until(when: Option<&Timestamp>) -> String {
    when.map(|when| format!("{}Z", short_time(Some(when)))).unwrap_or_default()
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

/// An approval's verdict, coloured.
pub fn verdict(verdict: ApprovalVerdict) -> Cell {
    let color = match verdict {
        ApprovalVerdict::Pending => Color::Magenta,
        ApprovalVerdict::Approved => Color::Green,
        ApprovalVerdict::Rejected => Color::Red,
        ApprovalVerdict::ChangesRequested => Color::Yellow,
        ApprovalVerdict::Expired | ApprovalVerdict::Cancelled => Color::DarkGrey,
        ApprovalVerdict::Unspecified => Color::Reset,
    };
    Cell::new(word(verdict.as_str_name(), "APPROVAL_VERDICT_")).fg(color)
}

/// The same colours in a line of text, of what somebody can decide.
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
    fn what_an_agent_wrote_steers_no_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\u{7}\u{9b}\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(visible("Prüfe → ja"), "Prüfe → ja");
    }

    #[test]
    fn an_end_is_short_and_in_utc() {
        let time = Timestamp { seconds: 1_800_000_000, nanos: 5 };
        assert_eq!(until(Some(&time)), "01-15 08:00:00Z");
        assert_eq!(until(None), "");
    }
}
