//! A measured figure and its target.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::load::Load;
use crate::sample::Sample;

/// A measured figure. A figure that could not be measured is NaN.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Names the figure and, after the semicolon, the ceiling.
    pub name: String,
    /// The unit of `value` and `ceiling`.
    pub unit: &'static str,
    /// The figure.
    pub value: f64,
    /// The median time of one call, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// The time in milliseconds that 99 of 100 calls do not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// The figure that `value` is compared with, measured in the same run. None: the row has no comparison.
    pub ceiling: Option<f64>,
    /// `value` divided by `ceiling`. None: the row has no comparison.
    pub ratio: Option<f64>,
    /// The target for `ratio`, or for `value` if there is no ratio. None: the row has no target.
    pub target: Option<Target>,
    /// `AT_LEAST` or `AT_MOST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_is: Option<&'static str>,
    /// Whether the target is met. None: the row has no target, or could not be measured.
    pub met: Option<bool>,
}

/// The bound that the design sets for a figure.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The figure's lower bound.
    AtLeast(f64),
    /// The figure's upper bound.
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

/// Serializes the bound as a number. `Row::target_is` says which bound it is.
impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.number())
    }
}

impl Row {
    /// Returns a row with a figure and nothing else.
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

    /// Returns a row whose figure is the rate of a load.
    pub(crate) fn rate(name: impl Into<String>, unit: &'static str, load: &Load) -> Self {
        Self::new(name, unit, load.per_second()).with_times(&load.times)
    }

    /// Returns a row whose figure is the p99 in milliseconds.
    pub(crate) fn p99(name: impl Into<String>, times: &Sample) -> Self {
        Self::new(name, "ms", times.percentile(99)).with_times(times)
    }

    /// Returns a row whose figure is the p50 in milliseconds.
    pub(crate) fn p50(name: impl Into<String>, times: &Sample) -> Self {
        Self::new(name, "ms", times.percentile(50)).with_times(times)
    }

    /// Adds the p50 and p99 of one call.
    pub(crate) fn with_times(self, times: &Sample) -> Self {
        Self { p50: Some(times.percentile(50)), p99: Some(times.percentile(99)), ..self }
    }

    /// Adds the ceiling, and the ratio to it.
    pub(crate) fn compared_with(self, ceiling: f64) -> Self {
        Self { ceiling: Some(ceiling), ratio: Some(self.value / ceiling), ..self }
    }

    /// Adds the target for the ratio, or for the figure if there is no ratio.
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
    fn target_applies_to_the_ratio_or_else_to_the_value() {
        let met = |row: Row| row.met.unwrap();
        assert!(met(Row::new("", "", 50.0).compared_with(100.0).with_target(Target::AtLeast(0.5))));
        assert!(!met(Row::new("", "", 50.0).compared_with(100.0).with_target(Target::AtLeast(0.51))));
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
    fn json_has_the_documented_keys() {
        let row = Row::new("x", "ms", 2.0).compared_with(4.0).with_target(Target::AtMost(1.0));
        let expected = serde_json::json!({"name": "x", "unit": "ms", "value": 2.0, "ceiling": 4.0, "ratio": 0.5,
            "target": 1.0, "target_is": "AT_MOST", "met": true});
        assert_eq!(serde_json::to_value(row).unwrap(), expected);
        let plain = serde_json::to_value(Row::new("x", "ms", 2.0)).unwrap();
        assert!(plain["target"].is_null() && plain["met"].is_null() && plain["ceiling"].is_null());
    }
}
