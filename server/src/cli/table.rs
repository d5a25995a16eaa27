//! Tables and short forms of values, for people. Colors appear on a terminal only.

use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets};
use prost_types::Timestamp;
use runhub_api::v1::{ApprovalVerdict, AttemptStatus, RunStatus, TaskStatus};

/// The style of what stands out in a line.
pub const BOLD: Style = Style::new().bold();
/// The style of secondary parts of a line.
pub const DIM: Style = Style::new().dimmed();

/// Headings of columns that never wrap, because an id that is split over two lines can't be copied.
const UNBROKEN: [&str; 6] = ["RUN", "TASK", "APPROVAL", "ARTIFACT", "STATUS", "VERDICT"];

/// Returns an empty table with these headings.
pub fn new(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    for (column, _) in table.column_iter_mut().zip(headings).filter(|(_, heading)| UNBROKEN.contains(heading)) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    if anstream::AutoStream::choice(&io::stdout()) == ColorChoice::Never {
        // Without colors and a maximum width, each row stays on one line, for grep and awk.
        table.force_no_tty();
    }
    table
}

/// Prints a table, or the text `if_empty` if it has no rows.
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

/// Returns a right-aligned cell.
pub fn number(value: impl ToString) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}

/// Returns a cell with the first line of a text, cut as by `shorten`.
pub fn short(text: &str) -> Cell {
    Cell::new(shorten(text))
}

/// Returns a cell as `short` does, or with a dash if the text is empty.
pub fn short_or_dash(text: &str) -> Cell {
    short(if text.is_empty() { "-" } else { text })
}

/// Returns the first line of a text. Replaces control characters and characters that change the writing direction, so that
/// text from an agent can't control the reader's terminal.
pub fn visible(text: &str) -> String {
    let first_line = text.lines().next().unwrap_or_default();
    first_line.chars().map(|letter| if controls_terminal(letter) { '\u{fffd}' } else { letter }).collect()
}

fn controls_terminal(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the first line of a text as `visible` does, on a terminal cut to 60 characters.
pub fn shorten(text: &str) -> String {
    const CHARS: usize = 60;
    let line = visible(text);
    if !io::stdout().is_terminal() || line.chars().count() <= CHARS {
        return line;
    }
    line.chars().take(CHARS - 1).chain(['…']).collect()
}

/// Returns a time in UTC, to the second; empty if there is none.
pub fn time(time: Option<&Timestamp>) -> String {
    match time {
        Some(time) => Timestamp { nanos: 0, ..*time }.to_string().replace('T', " "),
        None => String::new(),
    }
}

/// Returns a time in UTC, to the second and without the year, for event lines; empty if there is none.
pub fn short_time(when: Option<&Timestamp>) -> String {
    time(when).trim_end_matches('Z').split_once('-').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

/// Returns a time as `short_time` does, with the time zone; empty if there is none.
pub fn until(when: Option<&Timestamp>) -> String {
    when.map(|when| format!("{}Z", short_time(Some(when)))).unwrap_or_default()
}

/// Returns the name of an enum value in lower case, without its prefix.
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// Returns a cell with a run's status in its color.
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

/// Returns a cell with a task's status in its color.
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

/// Returns a cell with an attempt's status.
pub fn attempt_status(status: AttemptStatus) -> Cell {
    Cell::new(word(status.as_str_name(), "ATTEMPT_STATUS_"))
}

/// Returns a cell with an approval's verdict in its color.
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

/// Returns the style of a decided verdict in a line of text.
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
    fn text_from_an_agent_does_not_control_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\u{7}\u{9b}\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(visible("Prüfe → ja"), "Prüfe → ja");
    }

    #[test]
    fn end_time_is_short_and_in_utc() {
        let time = Timestamp { seconds: 1_800_000_000, nanos: 5 };
        assert_eq!(until(Some(&time)), "01-15 08:00:00Z");
        assert_eq!(until(None), "");
    }
}
