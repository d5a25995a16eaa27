//! The format of a scenario's file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The content of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence that says what the scenario shows.
    pub about: String,
    pub(crate) parts: BTreeMap<String, Vec<Value>>,
}

/// One step: one of the verbs and its members. The README in this folder explains them.
#[derive(Debug, Default, Deserialize)]
// An unknown member would be a check that this runner does not make.
#[serde(deny_unknown_fields, default)]
pub(crate) struct Step {
    pub call: Option<String>,
    pub answer: Option<String>,
    pub server: Option<String>,
    pub hold: Option<Value>,
    pub lost: Option<String>,
    pub let_go: Option<String>,
    pub work: Option<Value>,
    pub subscribe: Option<Value>,
    pub seen: Option<String>,
    pub cli: Option<Vec<String>>,

    pub with: Value,
    #[serde(rename = "as")]
    pub name: Option<String>,
    pub because: Option<String>,
    pub event: Option<Value>,
    pub end: Option<String>,
    pub kinds: Option<Vec<String>>,
    pub expect: Option<Value>,
    pub refused: Option<Refused>,
    pub save: BTreeMap<String, String>,
    pub why: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    pub reason: String,
    pub code: Option<String>,
    pub metadata: Option<Value>,
    pub fields: Option<Vec<String>>,
}

impl Scenario {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// Fails if the file can't be read or is not a scenario.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}
