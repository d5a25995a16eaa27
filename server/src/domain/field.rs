//! The rules for the fields that callers and imports bring.
//!
//! Each function takes the field's name for the error, and returns the value or INVALID_FIELD.

use std::time::Duration;

use prost_types::Timestamp as ParsedTimestamp;

use super::event::SYSTEM;
use super::glob::Glob;
use super::time::Timestamp;
use super::{Labels, lease, limits};
use crate::error::{Error, Result};

/// Checks a required id.
pub fn id(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    at_most(field, value, limits::ID_BYTES)?;
    Ok(value.to_owned())
}

/// Checks an optional id. An id that is set must not be blank.
pub fn optional_id(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| id(field, value)).transpose()
}

/// Checks an id that may be empty, which means "any" and returns None.
pub fn id_or_any(field: &str, value: &str) -> Result<Option<String>> {
    if value.is_empty() { Ok(None) } else { id(field, value).map(Some) }
}

/// Checks a request_id: 1 to 128 bytes, without control characters.
pub fn request_id(value: &str) -> Result<String> {
    let is_printable = !value.trim().is_empty() && !value.chars().any(char::is_control);
    if !is_printable || value.len() > limits::ID_BYTES {
        let problem = format!("must be 1 to {} bytes of printable characters", limits::ID_BYTES);
        return Err(Error::field("request_id", problem));
    }
    Ok(value.to_owned())
}

/// Checks the required name of a role, source, kind, agent or capability.
pub fn name(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    plain_name(field, value)
}

/// Checks the required name of an event's or decision's source. Only the server writes as `system`.
pub fn source(field: &str, value: &str) -> Result<String> {
    if value == SYSTEM {
        return Err(Error::field(field, "must not be \"system\", which is reserved for the server"));
    }
    name(field, value)
}

/// Checks an optional name. A blank name counts as unset.
pub fn optional_name(field: &str, value: Option<&str>) -> Result<Option<String>> {
    let name = value.map(|value| plain_name(field, value)).transpose()?;
    Ok(name.filter(|name| !name.trim().is_empty()))
}

/// Checks a name that may be blank.
pub fn plain_name(field: &str, value: &str) -> Result<String> {
    at_most(field, value, limits::NAME_BYTES)?;
    if value.chars().any(char::is_control) {
        return Err(Error::field(field, "must not contain control characters"));
    }
    Ok(value.to_owned())
}

/// Checks a list of names, each of which may be blank.
pub fn names(field: &str, values: &[String]) -> Result<Vec<String>> {
    entries(field, values, plain_name)
}

/// Checks a list of names or ids of other things, none of which may be blank.
pub fn references(field: &str, values: &[String]) -> Result<Vec<String>> {
    entries(field, values, name)
}

/// Checks a text that may be blank.
pub fn text(field: &str, value: &str) -> Result<String> {
    text_up_to(field, value, limits::TEXT_BYTES)
}

/// Checks a text that may be blank and has a limit of its own, in bytes.
pub fn text_up_to(field: &str, value: &str, limit: usize) -> Result<String> {
    at_most(field, value, limit)?;
    no_nul(field, value)?;
    Ok(value.to_owned())
}

/// Checks a text that must not be blank.
pub fn required_text(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    text(field, value)
}

/// Checks an optional text.
pub fn optional_text(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| text(field, value)).transpose()
}

/// Checks a list of texts, each of which may be blank.
pub fn texts(field: &str, values: &[String]) -> Result<Vec<String>> {
    entries(field, values, text)
}

/// Checks a required path.
pub fn path(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    text_up_to(field, value, limits::PATH_BYTES)
}

/// Checks an optional path, which may be blank.
pub fn optional_path(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| text_up_to(field, value, limits::PATH_BYTES)).transpose()
}

/// Checks a list of path patterns. The list also has a limit as a whole, because each pattern is compared with each of
/// the patterns of other tasks.
pub fn globs(field: &str, values: &[String]) -> Result<Vec<String>> {
    let bytes: usize = values.iter().map(String::len).sum();
    if bytes > limits::GLOBS_BYTES && values.len() <= limits::LIST_ENTRIES {
        let problem = format!("must have at most {} bytes together, not {bytes}", limits::GLOBS_BYTES);
        return Err(Error::field(field, problem));
    }
    entries(field, values, |field, value| {
        let pattern = path(field, value)?;
        Glob::parse(&pattern).map(|_| pattern).map_err(|problem| Error::field(field, problem))
    })
}

/// Checks labels: their number, their keys and their values.
pub fn labels(field: &str, labels: &Labels) -> Result<Labels> {
    at_most_entries(field, labels.len(), limits::LABELS)?;
    for (key, value) in labels {
        plain_name(field, key)?;
        text_up_to(field, value, limits::LABEL_VALUE_BYTES)?;
    }
    Ok(labels.clone())
}

/// Checks a number that counts something.
pub fn count(field: &str, value: i32) -> Result<i32> {
    if value < 0 { Err(negative(field)) } else { Ok(value) }
}

/// Checks an optional position or revision.
pub fn counter(field: &str, value: Option<i64>) -> Result<Option<i64>> {
    match value {
        Some(number) if number < 0 => Err(negative(field)),
        other => Ok(other),
    }
}

fn negative(field: &str) -> Error {
    Error::field(field, "must not be negative")
}

/// Checks a point in time given in seconds and nanoseconds since 1970.
pub fn time(field: &str, seconds: i64, nanos: i32) -> Result<Timestamp> {
    let time = Timestamp::from_seconds_and_nanos(seconds, nanos);
    time.ok_or_else(|| Error::field(field, "must be a time between the years 1 and 9999"))
}

/// Checks a point in time given as text (RFC 3339).
pub fn time_from_text(field: &str, text: &str) -> Result<Timestamp> {
    let parsed = text.parse::<ParsedTimestamp>();
    let parsed = parsed.map_err(|_| Error::field(field, format!("must be a time in RFC 3339 format, not {text:?}")))?;
    time(field, parsed.seconds, parsed.nanos)
}

/// Checks a duration given in seconds and nanoseconds.
pub fn duration(field: &str, seconds: i64, nanos: i32) -> Result<Duration> {
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Error::field(field, "must be a valid duration of 0 s or more")),
    }
}

/// Checks that a duration is at most `limit`.
pub fn duration_up_to(field: &str, duration: Duration, limit: Duration) -> Result<Duration> {
    if duration > limit {
        return Err(Error::field(field, format!("must be at most {} s", limit.as_secs())));
    }
    Ok(duration)
}

/// Checks the duration of a lease.
pub fn lease_duration(field: &str, duration: Duration) -> Result<Duration> {
    if !(lease::SHORTEST..=lease::LONGEST).contains(&duration) {
        return Err(Error::field(field, "must be 1 s to 24 h"));
    }
    Ok(duration)
}

/// Checks the number of entries of a call that takes many.
pub fn batch(field: &str, entries: usize) -> Result<()> {
    at_most_entries(field, entries, limits::BATCH_ENTRIES)
}

/// Checks the size of a JSON value, in bytes of its protobuf encoding.
pub fn value_bytes(field: &str, bytes: usize) -> Result<()> {
    if bytes > limits::VALUE_BYTES {
        let problem = format!("must have at most {} bytes when encoded, not {bytes}", limits::VALUE_BYTES);
        return Err(Error::field(field, problem));
    }
    Ok(())
}

/// Checks that a list or object of a JSON value may stand inside `depth` others.
pub fn value_depth(field: &str, depth: usize) -> Result<()> {
    if depth >= limits::VALUE_DEPTH {
        return Err(Error::field(field, format!("must not nest deeper than {} levels", limits::VALUE_DEPTH)));
    }
    Ok(())
}

/// Checks a number of a JSON value.
pub fn value_number(field: &str, number: f64) -> Result<()> {
    if number.is_finite() { Ok(()) } else { Err(Error::field(field, "must contain finite numbers only")) }
}

fn entries(field: &str, values: &[String], check: impl Fn(&str, &str) -> Result<String>) -> Result<Vec<String>> {
    at_most_entries(field, values.len(), limits::LIST_ENTRIES)?;
    values.iter().enumerate().map(|(at, value)| check(&format!("{field}[{at}]"), value)).collect()
}

fn at_most_entries(field: &str, entries: usize, limit: usize) -> Result<()> {
    if entries > limit {
        return Err(Error::field(field, format!("must have at most {limit} entries, not {entries}")));
    }
    Ok(())
}

fn not_blank(field: &str, value: &str) -> Result<()> {
    if value.trim().is_empty() { Err(Error::field(field, "must not be blank")) } else { Ok(()) }
}

fn at_most(field: &str, value: &str, limit: usize) -> Result<()> {
    if value.len() > limit {
        return Err(Error::field(field, format!("must have at most {limit} bytes, not {}", value.len())));
    }
    Ok(())
}

/// PostgreSQL can't store a NUL character in a text, and both databases accept the same requests.
fn no_nul(field: &str, value: &str) -> Result<()> {
    if value.contains('\0') { Err(Error::field(field, "must not contain a NUL character")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem<T>(result: Result<T>) -> Option<String> {
        match result {
            Err(Error::InvalidField { problem, .. }) => Some(problem),
            _ => None,
        }
    }

    #[test]
    fn names_are_short_and_have_no_control_characters() {
        assert!(name("role", &"é".repeat(128)).is_ok());
        assert!(problem(name("role", &"é".repeat(129))).unwrap().contains("not 258"));
        assert!(problem(name("role", "a\u{7f}")).unwrap().contains("control"));
        assert!(problem(name("role", " \t")).unwrap().contains("blank"));
    }

    #[test]
    fn texts_may_be_blank_and_multiline_but_have_no_nul() {
        assert!(text("summary", "").is_ok());
        assert!(text("summary", "a\nb").is_ok());
        assert!(problem(text("summary", "a\0")).unwrap().contains("NUL"));
        assert!(text("summary", &"x".repeat(limits::TEXT_BYTES)).is_ok());
        assert!(text("summary", &"x".repeat(limits::TEXT_BYTES + 1)).is_err());
    }

    #[test]
    fn error_names_entry_by_its_index() {
        let refused = names("capabilities", &["a".into(), "\n".into()]);
        assert!(matches!(refused, Err(Error::InvalidField { field, .. }) if field == "capabilities[1]"));
    }

    #[test]
    fn labels_have_limits() {
        let many = |count: usize| (0..count).map(|at| (at.to_string(), String::new())).collect::<Labels>();
        assert!(labels("labels", &many(64)).is_ok());
        assert!(labels("labels", &many(65)).is_err());
        assert!(labels("labels", &Labels::from([("\n".into(), String::new())])).is_err());
        assert!(labels("labels", &Labels::from([("k".into(), "v".repeat(1025))])).is_err());
    }

    #[test]
    fn text_of_a_time_is_rfc_3339() {
        assert_eq!(time_from_text("t", "1970-01-01T00:00:01Z"), Ok(Timestamp::from_micros(1_000_000)));
        assert!(problem(time_from_text("t", "soon")).unwrap().contains("soon"));
    }
}
