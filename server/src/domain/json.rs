//! JSON as text: the server stores what callers bring and never looks inside.

/// One JSON value, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Returns the value of a text that is known to be JSON.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// Returns the value null. A value that a caller leaves unset is null too.
    pub fn null() -> Self {
        Self("null".to_owned())
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the value as a part of a larger value.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string())
    }
}
