//! This module defines `Json`, a JSON value as text. The server stores the JSON values of callers and never interprets
//! the values.

/// Represents one JSON value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Returns the JSON value for a text that the caller knows to be valid JSON. The function does not check the text.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// Returns the JSON value null, which also represents a value that a caller leaves unset.
    pub fn null() -> Self {
        Self("null".to_owned())
    }

    /// Returns the JSON text of the value.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the parsed value, which can become part of a larger JSON value, or null if the text is not valid JSON.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string())
    }
}
