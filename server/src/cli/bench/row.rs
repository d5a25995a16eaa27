//! One figure, and what is asked of it.

use std::io::{self, Write};

use comfy_table::{Cell, Color};
use serde::{Serialize, Serializer};

use super::load::Load;
use super::sample::Sample;
use crate::cli::table;

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
    /// In milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// What it is compared with, of the same run.
    pub ceiling: Option<f64>,
    pub ratio: Option<f64>,
    /// Of the ratio, or of the value if there is none; null: it is only shown.
    pub target: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_is: Option<&'static str>,
    /// Null also where nothing could be measured.
    pub met: Option<bool>,
}

/// What the design asks for.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }

    fn number(self) -> f64 {
        let (Self::AtLeast(number) | Self::AtMost(number)) = self;
        number
    }

    /// For programs, and for people.
    fn is(self) -> (&'static str, &'static str) {
        match self {
            Self::AtLeast(_) => ("AT_LEAST", "≥"),
            Self::AtMost(_) => ("AT_MOST", "≤"),
        }
    }
}

/// As its number.
impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.number())
    }
}

impl Row {
    /// A figure by itself.
    pub fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        let (p50, p99, ceiling, ratio) = (None, None, None, None);
        Self { name: name.into(), unit, value, p50, p99, ceiling, ratio, target: None, target_is: None, met: None }
    }

    /// How often a second something was done.
    pub fn rate(name: impl Into<String>, unit: &'static str, load: &Load) -> Self {
        Self::new(name, unit, load.per_second()).with_times(&load.times)
    }

    /// How long one took, in milliseconds: the p99 is the figure.
    pub fn p99(name: impl Into<String>, times: &Sample) -> Self {
        Self::new(name, "ms", times.percentile(99)).with_times(times)
    }

    /// The same: the p50 is.
    pub fn p50(name: impl Into<String>, times: &Sample) -> Self {
        Self::new(name, "ms", times.percentile(50)).with_times(times)
    }

    /// How long each took beside that.
    pub fn with_times(self, times: &Sample) -> Self {
        Self { p50: Some(times.percentile(50)), p99: Some(times.percentile(99)), ..self }
    }

    /// Compares it.
    pub fn of(self, ceiling: f64) -> Self {
        Self { ceiling: Some(ceiling), ratio: Some(self.value / ceiling), ..self }
    }

    /// Judges the ratio, or the value if there is none.
    pub fn judged_by(self, target: Target) -> Self {
        let figure = self.ratio.unwrap_or(self.value);
        let met = (!figure.is_nan()).then(|| target.is_met_by(figure));
        Self { target: Some(target), target_is: Some(target.is().0), met, ..self }
    }
}

/// Prints figures for people.
pub fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let mut shown = table::new(&["WHAT", "VALUE", "P50 MS", "P99 MS", "CEILING", "RATIO", "TARGET", "MET"]);
    for row in rows {
        let figure = |figure: Option<f64>| table::number(figure.map_or("-".to_owned(), short));
        let met = match row.met {
            Some(true) => Cell::new("yes").fg(Color::Green),
            Some(false) => Cell::new("no").fg(Color::Red),
            None => Cell::new("-"),
        };
        shown.add_row(vec![
            Cell::new(&row.name),
            table::number(format!("{} {}", short(row.value), row.unit)),
            figure(row.p50),
            figure(row.p99),
            figure(row.ceiling),
            figure(row.ratio),
            table::number(row.target.map_or("-".to_owned(), |target| format!("{} {}", target.is().1, target.number()))),
            met,
        ]);
    }
    table::print(out, &mut shown, "nothing was measured")
}

/// A number of things, as people write it: 40,000.
pub fn counted(number: usize) -> String {
    let digits = number.to_string();
    let thousands: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|three| str::from_utf8(three).ok()).collect();
    thousands.join(",")
}

/// Three digits are as much as a figure like these is good for.
fn short(figure: f64) -> String {
    match figure {
        nothing if nothing.is_nan() => "-".to_owned(),
        small if small < 100.0 => format!("{small:.2}"),
        large => format!("{large:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_judged_or_else_the_value() {
        let met = |row: Row| row.met.unwrap();
        assert!(met(Row::new("", "", 50.0).of(100.0).judged_by(Target::AtLeast(0.5))));
        assert!(!met(Row::new("", "", 50.0).of(100.0).judged_by(Target::AtLeast(0.51))));
        assert!(met(Row::new("", "", 50.0).judged_by(Target::AtMost(50.0))));
        assert!(!met(Row::new("", "", 50.1).judged_by(Target::AtMost(50.0))));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_not() {
        let row = Row::p99("", &Sample::default()).judged_by(Target::AtMost(50.0));
        assert_eq!((row.met, short(row.value).as_str()), (None, "-"));
    }

    #[test]
    fn numbers_are_written_in_thousands() {
        assert_eq!([0, 64, 1_000, 40_000, 1_234_567].map(counted), ["0", "64", "1,000", "40,000", "1,234,567"]);
    }

    #[test]
    fn programs_get_the_keys_they_were_promised() {
        let row = serde_json::to_value(Row::new("x", "ms", 2.0).of(4.0).judged_by(Target::AtMost(1.0))).unwrap();
        let expected = serde_json::json!({"name": "x", "unit": "ms", "value": 2.0, "ceiling": 4.0, "ratio": 0.5,
            "target": 1.0, "target_is": "AT_MOST", "met": true});
        assert_eq!(row, expected);
        let shown = serde_json::to_value(Row::new("x", "ms", 2.0)).unwrap();
        assert!(shown["target"].is_null() && shown["met"].is_null() && shown["ceiling"].is_null());
    }
}
