//! This module checks the fields of calls and imports.
//!
//! Each function checks one value. If the value is invalid, the function fails with INVALID_FIELD and the name of the
//! field.

use std::time::Duration;

use prost_types::Timestamp as ParsedTimestamp;

use super::event::SYSTEM;
use super::glob::{self, Glob};
use super::time::Timestamp;
use super::{Labels, lease, limits};
use crate::error::{Error, Result};

/// Checks a required id. Fails if the id is blank or has more than `limits::ID_BYTES` bytes.
pub fn id(field: &str, value: &str) -> Result<String> {
    check_not_blank(field, value)?;
    check_byte_count(field, value, limits::ID_BYTES)?;
    Ok(value.to_owned())
}

/// Checks an optional id. An unset id is valid. Fails if a set id is blank or has more than `limits::ID_BYTES` bytes.
pub fn optional_id(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| id(field, value)).transpose()
}

/// Checks an id for which an empty string selects all resources. Returns None for an empty string. Fails if a non-empty
/// string is blank or has more than `limits::ID_BYTES` bytes.
pub fn id_or_any(field: &str, value: &str) -> Result<Option<String>> {
    if value.is_empty() { Ok(None) } else { id(field, value).map(Some) }
}

/// Checks a request_id. Fails unless the request_id has 1 to `limits::ID_BYTES` bytes, is not blank, and contains no
/// control characters.
pub fn request_id(value: &str) -> Result<String> {
    let is_printable = !value.trim().is_empty() && !value.chars().any(char::is_control);
    if !is_printable || value.len() > limits::ID_BYTES {
        let problem =
            format!("the request_id must have 1 to {} bytes of printable characters: pass a UUID", limits::ID_BYTES);
        return Err(Error::field("request_id", problem));
    }
    Ok(value.to_owned())
}

/// Checks the required name of a role, source, kind, agent or capability. Fails if the name is blank, contains
/// control characters, or has more than `limits::NAME_BYTES` bytes.
pub fn name(field: &str, value: &str) -> Result<String> {
    check_not_blank(field, value)?;
    name_or_blank(field, value)
}

/// Checks the required source of an event or a decision. Fails if the source is not a valid name, or is `system`,
/// which is reserved for the server.
pub fn source(field: &str, value: &str) -> Result<String> {
    if value == SYSTEM {
        return Err(Error::field(
            field,
            "the source must not be \"system\", which is reserved for the server: pass another source",
        ));
    }
    name(field, value)
}

/// Checks an optional name. Returns None if the name is unset or blank. Fails if the name contains control characters
/// or has more than `limits::NAME_BYTES` bytes.
pub fn optional_name(field: &str, value: Option<&str>) -> Result<Option<String>> {
    let name = value.map(|value| name_or_blank(field, value)).transpose()?;
    Ok(name.filter(|name| !name.trim().is_empty()))
}

/// Checks a name that may be blank. Fails if the name contains control characters or has more than
/// `limits::NAME_BYTES` bytes.
pub fn name_or_blank(field: &str, value: &str) -> Result<String> {
    check_byte_count(field, value, limits::NAME_BYTES)?;
    if value.chars().any(char::is_control) {
        return Err(Error::field(field, format!("the name must not contain control characters, but is {value:?}")));
    }
    Ok(value.to_owned())
}

/// Checks a list of names, each of which may be blank. Fails if a name is invalid, or if the list has more than
/// `limits::LIST_ENTRIES` entries.
pub fn names(field: &str, values: &[String]) -> Result<Vec<String>> {
    check_entries(field, values, name_or_blank)
}

/// Checks a list of names or ids that refer to other resources. Fails if an entry is blank or invalid, or if the list
/// has more than `limits::LIST_ENTRIES` entries.
pub fn references(field: &str, values: &[String]) -> Result<Vec<String>> {
    check_entries(field, values, name)
}

/// Checks a text that may be blank. Fails if the text contains a NUL character or has more than `limits::TEXT_BYTES`
/// bytes.
pub fn text(field: &str, value: &str) -> Result<String> {
    text_up_to(field, value, limits::TEXT_BYTES)
}

/// Checks a text that may be blank. Fails if the text contains a NUL character or has more than `limit` bytes.
pub fn text_up_to(field: &str, value: &str, limit: usize) -> Result<String> {
    check_byte_count(field, value, limit)?;
    check_no_nul(field, value)?;
    Ok(value.to_owned())
}

/// Checks a required text. Fails if the text is blank, contains a NUL character, or has more than
/// `limits::TEXT_BYTES` bytes.
pub fn required_text(field: &str, value: &str) -> Result<String> {
    check_not_blank(field, value)?;
    text(field, value)
}

/// Checks an optional text, which may be blank. Fails if the text contains a NUL character or has more than
/// `limits::TEXT_BYTES` bytes.
pub fn optional_text(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| text(field, value)).transpose()
}

/// Checks a list of texts, each of which may be blank. Fails if a text is invalid, or if the list has more than
/// `limits::LIST_ENTRIES` entries.
pub fn texts(field: &str, values: &[String]) -> Result<Vec<String>> {
    check_entries(field, values, text)
}

/// Checks a required path. Fails if the path is blank, contains a NUL character, or has more than
/// `limits::PATH_BYTES` bytes.
pub fn path(field: &str, value: &str) -> Result<String> {
    check_not_blank(field, value)?;
    text_up_to(field, value, limits::PATH_BYTES)
}

/// Checks an optional path, which may be blank. Fails if the path contains a NUL character or has more than
/// `limits::PATH_BYTES` bytes.
pub fn optional_path(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| text_up_to(field, value, limits::PATH_BYTES)).transpose()
}

/// Checks a list of path patterns. Fails if a pattern is invalid, if the list has more than `limits::LIST_ENTRIES`
/// entries, or if the total size of the patterns is more than `limits::GLOBS_BYTES` bytes. The total size is limited
/// because the server compares each pattern with every pattern of other tasks.
pub fn globs(field: &str, values: &[String]) -> Result<Vec<String>> {
    let bytes: usize = values.iter().map(String::len).sum();
    if bytes > limits::GLOBS_BYTES && values.len() <= limits::LIST_ENTRIES {
        let problem =
            format!("the path patterns must have at most {} bytes in total, not {bytes}", limits::GLOBS_BYTES);
        return Err(Error::field(field, problem));
    }
    check_entries(field, values, |field, value| {
        let pattern = path(field, value)?;
        let checked = Glob::parse(&pattern).and_then(|_| glob::check_syntax(&pattern));
        checked.map(|()| pattern).map_err(|problem| Error::field(field, problem))
    })
}

/// Checks labels. Fails if there are more than `limits::LABELS` labels, if a label's key contains control characters or
/// has more than `limits::NAME_BYTES` bytes, or if a label's value contains a NUL character or has more than
/// `limits::LABEL_VALUE_BYTES` bytes.
pub fn labels(field: &str, labels: &Labels) -> Result<Labels> {
    check_entry_count(field, labels.len(), limits::LABELS)?;
    for (key, value) in labels {
        name_or_blank(field, key)?;
        text_up_to(field, value, limits::LABEL_VALUE_BYTES)?;
    }
    Ok(labels.clone())
}

/// Checks a count. Fails if the count is negative.
pub fn count(field: &str, value: i32) -> Result<i32> {
    if value < 0 { Err(negative_number_error(field, value.into())) } else { Ok(value) }
}

/// Checks an optional position or revision. Fails if the position or revision is negative.
pub fn optional_counter(field: &str, value: Option<i64>) -> Result<Option<i64>> {
    match value {
        Some(number) if number < 0 => Err(negative_number_error(field, number)),
        other => Ok(other),
    }
}

fn negative_number_error(field: &str, number: i64) -> Error {
    Error::field(field, format!("the number must be 0 or more, not {number}"))
}

/// Converts seconds and nanoseconds since the Unix epoch to a `Timestamp`. Fails if the time is outside the years 1 to
/// 9999, or if `nanos` is not between 0 and 999,999,999.
pub fn time(field: &str, seconds: i64, nanos: i32) -> Result<Timestamp> {
    let time = Timestamp::from_seconds_and_nanos(seconds, nanos);
    time.ok_or_else(|| {
        let value = format!("{seconds} s and {nanos} ns since 1970");
        Error::field(field, format!("the time must be in the years 1 to 9999 with 0 to 999999999 ns, not {value}"))
    })
}

/// Parses a time in RFC 3339 format. Fails if the text has another format, or if the time is outside the years 1 to
/// 9999.
pub fn time_from_text(field: &str, text: &str) -> Result<Timestamp> {
    let parsed = text.parse::<ParsedTimestamp>();
    let problem = || format!("the time must be in RFC 3339 format, for example 2026-01-02T03:04:05Z, not {text:?}");
    let parsed = parsed.map_err(|_| Error::field(field, problem()))?;
    time(field, parsed.seconds, parsed.nanos)
}

/// Converts seconds and nanoseconds to a `Duration`. Fails if the duration is negative, or if `nanos` is not between 0
/// and 999,999,999.
pub fn duration(field: &str, seconds: i64, nanos: i32) -> Result<Duration> {
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => {
            let problem =
                format!("the duration must be 0 s or more with 0 to 999999999 ns, not {seconds} s and {nanos} ns");
            Err(Error::field(field, problem))
        }
    }
}

/// Checks a duration. Fails if the duration is longer than `limit`.
pub fn duration_up_to(field: &str, duration: Duration, limit: Duration) -> Result<Duration> {
    if duration > limit {
        return Err(Error::field(field, format!("the duration must be at most {limit:?}, not {duration:?}")));
    }
    Ok(duration)
}

/// Checks the duration of a lease. Fails if the duration is shorter than `lease::SHORTEST` (1 s) or longer than
/// `lease::LONGEST` (24 h).
pub fn lease_duration(field: &str, duration: Duration) -> Result<Duration> {
    if !(lease::SHORTEST..=lease::LONGEST).contains(&duration) {
        return Err(Error::field(field, format!("the lease duration must be 1 s to 24 h, not {duration:?}")));
    }
    Ok(duration)
}

/// Checks the number of entries in a batch call. Fails if the call has more than `limits::BATCH_ENTRIES` entries.
pub fn batch_entries(field: &str, entries: usize) -> Result<()> {
    check_entry_count(field, entries, limits::BATCH_ENTRIES)
}

/// Checks the size of a task draft, in bytes of its protobuf encoding. Fails if the size is more than
/// `limits::TASK_BYTES`. The size is limited because the response to a claim contains the task and its previous attempt
/// in one message. `field` returns the name of the field.
pub fn task_bytes(field: impl FnOnce() -> String, bytes: usize) -> Result<()> {
    if bytes > limits::TASK_BYTES {
        let limit = limits::TASK_BYTES;
        let problem = format!("the task has {bytes} bytes, but the maximum is {limit}: shorten the texts of the task");
        return Err(Error::field(field(), problem));
    }
    Ok(())
}

/// Checks the size of a JSON value, in bytes of its protobuf encoding. Fails if the size is more than
/// `limits::VALUE_BYTES`.
pub fn value_bytes(field: &str, bytes: usize) -> Result<()> {
    if bytes > limits::VALUE_BYTES {
        let problem =
            format!("the JSON value must have at most {} bytes when encoded, not {bytes}", limits::VALUE_BYTES);
        return Err(Error::field(field, problem));
    }
    Ok(())
}

/// Checks the depth of an array or object in a JSON value. `depth` is the number of arrays and objects that enclose the
/// array or object. Fails if `depth` is `limits::VALUE_DEPTH` or more.
pub fn value_depth(field: &str, depth: usize) -> Result<()> {
    if depth >= limits::VALUE_DEPTH {
        let problem =
            format!("the JSON value must nest arrays and objects at most {} levels deep", limits::VALUE_DEPTH);
        return Err(Error::field(field, problem));
    }
    Ok(())
}

/// Checks a number in a JSON value. Fails if the number is infinite or NaN.
pub fn value_number(field: &str, number: f64) -> Result<()> {
    if number.is_finite() {
        return Ok(());
    }
    Err(Error::field(field, format!("the JSON value must contain only finite numbers, not {number}")))
}

fn check_entries(field: &str, values: &[String], check: impl Fn(&str, &str) -> Result<String>) -> Result<Vec<String>> {
    check_entry_count(field, values.len(), limits::LIST_ENTRIES)?;
    values.iter().enumerate().map(|(at, value)| check(&format!("{field}[{at}]"), value)).collect()
}

fn check_entry_count(field: &str, entries: usize, limit: usize) -> Result<()> {
    if entries > limit {
        return Err(Error::field(field, format!("the list must have at most {limit} entries, not {entries}")));
    }
    Ok(())
}

fn check_not_blank(field: &str, value: &str) -> Result<()> {
    if value.trim().is_empty() { Err(Error::field(field, "the value must not be blank")) } else { Ok(()) }
}

fn check_byte_count(field: &str, value: &str, limit: usize) -> Result<()> {
    if value.len() > limit {
        return Err(Error::field(field, format!("the value must have at most {limit} bytes, not {}", value.len())));
    }
    Ok(())
}

/// Checks a text. Fails if the text contains a NUL character. PostgreSQL can't store a NUL character in a text, and the
/// server accepts the same texts with SQLite and with PostgreSQL.
fn check_no_nul(field: &str, value: &str) -> Result<()> {
    if value.contains('\0') {
        return Err(Error::field(field, "the text must not contain a NUL character: remove the character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_problem<T>(result: Result<T>) -> Option<String> {
        match result {
            Err(Error::InvalidField { problem, .. }) => Some(problem),
            _ => None,
        }
    }

    #[test]
    fn names_are_short_and_have_no_control_characters() {
        assert!(name("role", &"é".repeat(128)).is_ok());
        assert!(error_problem(name("role", &"é".repeat(129))).unwrap().contains("not 258"));
        assert!(error_problem(name("role", "a\u{7f}")).unwrap().contains("control"));
        assert!(error_problem(name("role", " \t")).unwrap().contains("blank"));
    }

    #[test]
    fn texts_may_be_blank_and_multiline_but_must_not_contain_nul() {
        assert!(text("summary", "").is_ok());
        assert!(text("summary", "a\nb").is_ok());
        assert!(error_problem(text("summary", "a\0")).unwrap().contains("NUL"));
        assert!(text("summary", &"x".repeat(limits::TEXT_BYTES)).is_ok());
        assert!(text("summary", &"x".repeat(limits::TEXT_BYTES + 1)).is_err());
    }

    #[test]
    fn error_names_the_entry_by_its_index() {
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
    fn text_of_a_time_must_be_in_rfc_3339_format() {
        assert_eq!(time_from_text("t", "1970-01-01T00:00:01Z"), Ok(Timestamp::from_micros(1_000_000)));
        assert!(error_problem(time_from_text("t", "soon")).unwrap().contains("soon"));
    }
}
