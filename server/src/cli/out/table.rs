//! This module formats tables.

use std::fmt::Display;
use std::io;

use anstream::ColorChoice;
pub use comfy_table::Color;
use comfy_table::{Attribute, CellAlignment, ColumnConstraint, ContentArrangement, presets};

use super::Line;
use super::printable::printable;

/// The headings of columns that never wrap, because an id that is split over two lines can't be copied.
const UNBROKEN: [&str; 6] = ["RUN", "TASK", "APPROVAL", "ARTIFACT", "STATUS", "VERDICT"];

/// A cell of a table. Every text of the cell is printable, whoever wrote the text.
pub struct Cell(comfy_table::Cell);

impl Cell {
    /// Returns a cell with a text.
    pub fn new(text: impl Display) -> Self {
        Self(comfy_table::Cell::new(printable(&text.to_string())))
    }

    /// Returns a cell with a text on each line.
    pub fn lines(texts: &[&str]) -> Self {
        let lines: Vec<_> = texts.iter().map(|text| printable(text)).collect();
        Self(comfy_table::Cell::new(lines.join("\n")))
    }

    /// Returns the cell in a color.
    pub fn color(self, color: Color) -> Self {
        Self(self.0.fg(color))
    }

    /// Returns the cell, aligned to the right.
    pub fn right(self) -> Self {
        Self(self.0.set_alignment(CellAlignment::Right))
    }
}

/// A table with headings.
pub struct Table(comfy_table::Table);

impl Table {
    /// Returns an empty table with the passed headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        let heading = |heading| comfy_table::Cell::new(heading).add_attribute(Attribute::Bold);
        table.set_header(headings.iter().map(heading));
        for (column, _) in table.column_iter_mut().zip(headings).filter(|(_, heading)| UNBROKEN.contains(heading)) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        if anstream::AutoStream::choice(&io::stdout()) == ColorChoice::Never {
            // If the output has no colors, the table has no maximum width. Each row then stays on one line for tools
            // such as grep and awk.
            table.force_no_tty();
        }
        Self(table)
    }

    /// Appends a row.
    pub fn add_row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.add_row(cells.into_iter().map(|cell| cell.0));
    }

    /// Returns whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.0.row_iter().next().is_none()
    }

    /// Returns the lines of the table, with the headings.
    pub fn into_lines(mut self) -> Vec<Line> {
        if let Some(first) = self.0.column_mut(0) {
            first.set_padding((0, 1));
        }
        self.0.lines().map(|line| Line(line.trim_end().to_owned())).collect()
    }
}
