//! One figure, and what is asked of it.

use std::io::{self, Write};

use comfy_table::{Cell, Color};
use serde::{Serialize, Serializer};

use super::load::Load;
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

    fn shown(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// As its number: programs have `met`.
impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (Self::AtLeast(number) | Self::AtMost(number)) = self;
        to.serialize_f64(*number)
    }
}

impl Row {
    /// A figure by itself.
    pub fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        let (p50, p99, ceiling, ratio, target, met) = (None, None, None, None, None, None);
        Self { name: name.into(), unit, value, p50, p99, ceiling, ratio, target, met }
    }

    /// How often a second something was done.
    pub fn rate(name: impl Into<String>, unit: &'static str, load: &Load) -> Self {
        Self::new(name, unit, load.per_second()).with_times(load.times.percentile(50), load.times.percentile(99))
    }

    /// How long one took, in milliseconds.
    pub fn with_times(self, p50: f64, p99: f64) -> Self {
        Self { p50: Some(p50), p99: Some(p99), ..self }
    }

    /// Compares it.
    pub fn of(self, ceiling: f64) -> Self {
        Self { ceiling: Some(ceiling), ratio: Some(self.value / ceiling), ..self }
    }

    /// Judges the ratio, or the value if there is none.
    pub fn judged_by(self, target: Target) -> Self {
        let met = target.is_met_by(self.ratio.unwrap_or(self.value));
        Self { target: Some(target), met: Some(met), ..self }
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
            table::number(row.target.map_or("-".to_owned(), Target::shown)),
            met,
        ]);
    }
    table::print(out, &mut shown, "nothing was measured")
}

/// Three digits are as much as a figure like these is good for.
fn short(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.2}") } else { format!("{figure:.0}") }
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
    fn programs_get_the_keys_they_were_promised() {
        let row = serde_json::to_value(Row::new("x", "ms", 2.0).of(4.0).judged_by(Target::AtMost(1.0))).unwrap();
        let expected = serde_json::json!({"name": "x", "unit": "ms", "value": 2.0, "ceiling": 4.0, "ratio": 0.5,
            "target": 1.0, "met": true});
        assert_eq!(row, expected);
        let shown = serde_json::to_value(Row::new("x", "ms", 2.0)).unwrap();
        assert!(shown["target"].is_null() && shown["met"].is_null() && shown["ceiling"].is_null());
    }
}
