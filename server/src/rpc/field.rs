//! This module parses the fields of a request. The rules in `domain::field` check the values.

use std::collections::BTreeSet;
use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};

pub use super::value::json_from_proto as json;
use crate::domain::event::EventFilter;
pub use crate::domain::field::{
    batch_entries, count, globs, id, id_or_any, labels, name, name_or_blank, names, optional_counter, optional_id,
    optional_name, optional_path, optional_text, path, references, required_text, source, task_bytes, text, texts,
};
use crate::domain::task::Caller;
use crate::domain::time::Timestamp;
use crate::domain::{field as rules, limits};
use crate::error::{Error, Result};

/// Parses an optional time. Fails if the time is not between the years 1 and 9999.
pub fn time(field: &str, value: Option<&ProtoTimestamp>) -> Result<Option<Timestamp>> {
    value.map(|time| rules::time(field, time.seconds, time.nanos)).transpose()
}

/// Parses an optional duration. Fails if the duration is invalid or negative.
pub fn duration(field: &str, value: Option<&ProtoDuration>) -> Result<Option<Duration>> {
    value.map(|duration| rules::duration(field, duration.seconds, duration.nanos)).transpose()
}

/// Parses an optional duration. Fails if the duration is invalid, negative or longer than `limit`.
pub fn duration_up_to(field: &str, value: Option<&ProtoDuration>, limit: Duration) -> Result<Option<Duration>> {
    duration(field, value)?.map(|duration| rules::duration_up_to(field, duration, limit)).transpose()
}

/// Parses an optional lease duration. Fails if the duration is not between 1 s and 24 h.
pub fn lease_duration(field: &str, value: Option<&ProtoDuration>) -> Result<Option<Duration>> {
    duration(field, value)?.map(|duration| rules::lease_duration(field, duration)).transpose()
}

/// Parses the maximum time for which the server may hold a call. If the field is unset, the function returns 0. If the
/// time is longer than `limits::WAIT`, the function returns `limits::WAIT`. Fails if the duration is invalid or
/// negative.
pub fn wait(value: Option<&ProtoDuration>) -> Result<Duration> {
    Ok(duration("wait", value)?.unwrap_or_default().min(limits::WAIT))
}

/// Parses the caller that reports on a task. If `lease_token` is set, the function returns the holder of the token.
/// Otherwise the function returns an operator. Fails if the token is blank.
pub fn caller(lease_token: Option<&str>) -> Result<Caller> {
    let token = optional_id("lease_token", lease_token)?;
    Ok(token.map_or(Caller::Operator, Caller::Holder))
}

/// Parses the filter of an event list or an event stream. Fails if a field is invalid.
pub fn event_filter(kinds: &[String], sources: &[String], task_id: Option<&str>) -> Result<EventFilter> {
    Ok(EventFilter {
        kinds: names("kinds", kinds)?,
        sources: names("sources", sources)?,
        task_id: optional_id("task_id", task_id)?,
    })
}

/// Parses a required enum value. Fails if the value is unset or unknown.
pub fn code<T>(field: &str, code: i32, from_code: impl Fn(i64) -> Option<T>) -> Result<T> {
    if code == 0 {
        return Err(Error::field(field, "the enum value is missing: set a value other than UNSPECIFIED"));
    }
    from_code(i64::from(code)).ok_or_else(|| unknown_code(field, code))
}

/// Returns the error for an enum value that the server does not know.
pub fn unknown_code(field: &str, code: i32) -> Error {
    Error::field(
        field,
        format!("the server does not know the enum value {code}: set a value that the server's API defines"),
    )
}

/// Parses an optional enum value. Returns `default` if the value is unset, and fails if the value is unknown.
pub fn code_or_default<T>(field: &str, code: i32, default: T, from_code: impl Fn(i64) -> Option<T>) -> Result<T> {
    if code == 0 { Ok(default) } else { self::code(field, code, from_code) }
}

/// Parses a list of enum values and returns each value once. Fails if a value is unset or unknown.
pub fn codes<T: Ord>(field: &str, codes: &[i32], from_code: impl Fn(i64) -> Option<T>) -> Result<Vec<T>> {
    let mut values = BTreeSet::new();
    for (at, code) in codes.iter().enumerate() {
        values.insert(self::code(&format!("{field}[{at}]"), *code, &from_code)?);
    }
    Ok(values.into_iter().collect())
}

/// Parses a list of enum values into a bit mask. An empty list selects all values. Fails if a value is unset or
/// unknown.
pub fn code_set<T: Ord>(field: &str, codes: &[i32], from_code: impl Fn(i64) -> Option<T>) -> Result<i64> {
    self::codes(field, codes, from_code)?;
    if codes.is_empty() {
        return Ok(i64::MAX);
    }
    Ok(codes.iter().fold(0, |set, code| set | 1 << code))
}
