//! This module defines the format of a scenario file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The content of a scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Summary of the scenario.
    pub about: String,
    pub(crate) participants: BTreeMap<String, Vec<Value>>,
}

/// One step of a scenario: one verb and the JSON members that the verb accepts. client/scenarios/README.md explains the
/// verbs.
#[derive(Debug, Default, Deserialize)]
// An unknown member must fail the step, because the member would be a check that this runner does not make.
#[serde(deny_unknown_fields, default)]
pub(crate) struct Step {
    pub call: Option<String>,
    pub answer: Option<String>,
    pub server: Option<String>,
    pub keep_lease: Option<Value>,
    pub lost: Option<String>,
    pub stop_keeper: Option<String>,
    pub work: Option<Value>,
    pub subscribe: Option<Value>,
    pub seen: Option<String>,
    pub cli: Option<Vec<String>>,

    pub with: Value,
    #[serde(rename = "as")]
    pub name: Option<String>,
    pub cause: Option<String>,
    pub event: Option<Value>,
    pub end: Option<String>,
    pub kinds: Option<Vec<String>>,
    pub expect: Option<Value>,
    pub refused: Option<ExpectedError>,
    pub save: BTreeMap<String, String>,
    pub why: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedError {
    pub reason: String,
    pub code: Option<String>,
    pub metadata: Option<Value>,
    pub fields: Option<Vec<String>>,
}

impl Scenario {
    /// Reads a scenario file and returns the scenario.
    ///
    /// # Errors
    /// Fails if the file can't be read, or if the file is not a scenario.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a valid scenario file", path.display()))
    }
}
