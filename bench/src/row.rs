//! This module defines a result row: a measured figure and its target.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::load::Load;
use crate::sample::Sample;

/// A measured figure with its ceiling and its target.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The name of the figure. If the row has a ceiling, a semicolon and the name of the ceiling follow.
    pub name: String,
    /// The unit of `value` and `ceiling`, such as "ms".
    pub unit: &'static str,
    /// The measured figure, in `unit`. If the figure could not be measured, the value is NaN.
    pub value: f64,
    /// The median latency of one call, in milliseconds. None means that the row measures no single calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// The 99th percentile of the latency of one call, in milliseconds. None means that the row measures no single
    /// calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// The figure with which `value` is compared, in `unit` and from the same measurement. None means that the row has
    /// no comparison.
    pub ceiling: Option<f64>,
    /// The ratio of `value` to `ceiling`. None means that the row has no comparison.
    pub ratio: Option<f64>,
    /// The target for `ratio`. If the row has no ratio, the target applies to `value`. None means that the row has no
    /// target.
    pub target: Option<Target>,
    /// The kind of the target: `AT_LEAST` or `AT_MOST`. None means that the row has no target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_is: Option<&'static str>,
    /// If the figure meets the target, the value is true. None means that the row has no target, or that the figure
    /// could not be measured.
    pub met: Option<bool>,
}

/// The bound that a figure must meet.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The figure must be at least this number.
    AtLeast(f64),
    /// The figure must be at most this number.
    AtMost(f64),
}

impl Target {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(min) => figure >= min,
            Self::AtMost(max) => figure <= max,
        }
    }

    fn number(self) -> f64 {
        let (Self::AtLeast(number) | Self::AtMost(number)) = self;
        number
    }

    fn name(self) -> &'static str {
        match self {
            Self::AtLeast(_) => "AT_LEAST",
            Self::AtMost(_) => "AT_MOST",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::AtLeast(min) => write!(to, "≥ {min}"),
            Self::AtMost(max) => write!(to, "≤ {max}"),
        }
    }
}

/// Serializes the bound as a number. `Row::target_is` specifies whether the number is a minimum or a maximum.
impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.number())
    }
}

impl Row {
    /// Returns a row that has a figure, but no latencies, no ceiling and no target.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            value,
            p50: None,
            p99: None,
            ceiling: None,
            ratio: None,
            target: None,
            target_is: None,
            met: None,
        }
    }

    /// Returns a row whose figure is the number of calls per second of a load test.
    pub(crate) fn rate(name: impl Into<String>, unit: &'static str, load: &Load) -> Self {
        Self::new(name, unit, load.calls_per_second()).with_times(&load.times)
    }

    /// Returns a row whose figure is the 99th percentile of the latencies, in milliseconds.
    pub(crate) fn p99(name: impl Into<String>, times: &Sample) -> Self {
        Self::new(name, "ms", times.percentile(99)).with_times(times)
    }

    /// Returns a row whose figure is the median of the latencies, in milliseconds.
    pub(crate) fn p50(name: impl Into<String>, times: &Sample) -> Self {
        Self::new(name, "ms", times.percentile(50)).with_times(times)
    }

    /// Adds the median and the 99th percentile of the latencies to the row, and returns the row.
    pub(crate) fn with_times(self, times: &Sample) -> Self {
        Self { p50: Some(times.percentile(50)), p99: Some(times.percentile(99)), ..self }
    }

    /// Adds a ceiling for the figure, and the ratio of the figure to the ceiling, to the row, and returns the row.
    pub(crate) fn with_ceiling(self, ceiling: f64) -> Self {
        Self { ceiling: Some(ceiling), ratio: Some(self.value / ceiling), ..self }
    }

    /// Removes the target from the row.
    pub(crate) fn remove_target(&mut self) {
        self.target = None;
        self.target_is = None;
        self.met = None;
    }

    /// Adds a target to the row and returns the row. If the row has a ratio, the target applies to the ratio.
    /// Otherwise, the target applies to the figure.
    pub(crate) fn with_target(self, target: Target) -> Self {
        let figure = self.ratio.unwrap_or(self.value);
        let met = (!figure.is_nan()).then(|| target.is_met_by(figure));
        Self { target: Some(target), target_is: Some(target.name()), met, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_applies_to_the_value_only_if_the_row_has_no_ratio() {
        let met = |row: Row| row.met.unwrap();
        assert!(met(Row::new("", "", 50.0).with_ceiling(100.0).with_target(Target::AtLeast(0.5))));
        assert!(!met(Row::new("", "", 50.0).with_ceiling(100.0).with_target(Target::AtLeast(0.51))));
        assert!(met(Row::new("", "", 50.0).with_target(Target::AtMost(50.0))));
        assert!(!met(Row::new("", "", 50.1).with_target(Target::AtMost(50.0))));
    }

    #[test]
    fn unmeasured_row_neither_meets_nor_misses_its_target() {
        let row = Row::p99("", &Sample::new().unwrap()).with_target(Target::AtMost(50.0));
        assert_eq!(row.met, None);
        assert!(row.value.is_nan());
    }

    #[test]
    fn row_serializes_to_the_documented_keys() {
        let row = Row::new("x", "ms", 2.0).with_ceiling(4.0).with_target(Target::AtMost(1.0));
        let expected = serde_json::json!({"name": "x", "unit": "ms", "value": 2.0, "ceiling": 4.0, "ratio": 0.5,
            "target": 1.0, "target_is": "AT_MOST", "met": true});
        assert_eq!(serde_json::to_value(row).unwrap(), expected);
        let plain = serde_json::to_value(Row::new("x", "ms", 2.0)).unwrap();
        assert!(plain["target"].is_null() && plain["met"].is_null() && plain["ceiling"].is_null());
    }
}
