//! This module prints the output of the commands. Agents and imported files write most of the printed texts. The types
//! of this module replace the characters of a text that could control the reader's terminal or hide something, so a
//! command can't forget to replace the characters. A test checks that the commands print in no other way.

mod closed;
pub mod printable;
mod table;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::Style;

pub use self::closed::stdout_closed;
use self::printable::{escape_json, printable};
pub use self::table::{Cell, Color, Table};

/// The style of emphasized parts of a line.
pub const BOLD: Style = Style::new().bold();
/// The style of secondary parts of a line.
pub const DIM: Style = Style::new().dimmed();

/// The standard output or the standard error of a command. Colors appear only on a terminal.
pub struct Out(Box<dyn Write>);

impl Out {
    /// Returns the standard output.
    pub fn stdout() -> Self {
        Self(Box::new(anstream::stdout()))
    }

    /// Returns the standard error.
    pub fn stderr() -> Self {
        Self(Box::new(anstream::stderr()))
    }

    /// Prints a line. Fails if the output can't be written.
    pub fn print(&mut self, line: Line) -> io::Result<()> {
        self.0.write_all(format!("{}\n", line.0).as_bytes())
    }

    /// Prints a line of plain text. Fails if the output can't be written.
    pub fn print_text(&mut self, text: impl Display) -> io::Result<()> {
        self.print(Line::new().text(text))
    }

    /// Prints the rows of a table, or the text `if_empty` if the table has no rows. Fails if the output can't be
    /// written.
    pub fn print_table(&mut self, table: Table, if_empty: &str) -> io::Result<()> {
        if table.is_empty() {
            return self.print_text(if_empty);
        }
        table.into_lines().into_iter().try_for_each(|line| self.print(line))
    }
}

/// Prints a line of JSON to the standard output. On a terminal, the function escapes the characters that could control
/// the terminal. Programs get the JSON unchanged. Fails if the output can't be written.
pub fn print_json(json: &str) -> io::Result<()> {
    let json = if stdout_is_terminal() { escape_json(json) } else { json.to_owned() };
    // Not `anstream::stdout`, which removes characters from the texts of the JSON.
    io::stdout().lock().write_all(format!("{json}\n").as_bytes())
}

/// Returns whether a person reads the standard output.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A line for people. Every text of the line is printable, whoever wrote the text.
#[derive(Default)]
pub struct Line(String);

impl Line {
    /// Returns an empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a text to the line.
    pub fn text(mut self, text: impl Display) -> Self {
        self.0 += &printable(&text.to_string());
        self
    }

    /// Appends a text in a style to the line.
    pub fn styled(mut self, style: Style, text: impl Display) -> Self {
        self.0 += &format!("{style}{}{style:#}", printable(&text.to_string()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_styles_of_a_line_control_the_terminal() {
        let line = Line::new().text(format_args!("{}: ", "a\u{1b}[31m\nb")).styled(BOLD, "c\u{202e}");
        assert_eq!(line.0, format!("a\u{fffd}[31m\u{fffd}b: {BOLD}c\u{fffd}{BOLD:#}"));
    }
}
