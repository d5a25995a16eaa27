//! Parsing a request's fields: protobuf to plain values, which the rules in `domain::field` then check.

use std::collections::BTreeSet;
use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};

pub use super::value::json_from_proto as json;
use crate::domain::event::EventFilter;
pub use crate::domain::field::{
    batch, count, counter, globs, id, id_or_any, labels, name, names, optional_id, optional_name, optional_path,
    optional_text, path, plain_name, references, required_text, source, text, texts,
};
use crate::domain::task::Caller;
use crate::domain::time::Timestamp;
use crate::domain::{field as rules, limits};
use crate::error::{Error, Result};

/// Parses an optional point in time.
pub fn time(field: &str, value: Option<&ProtoTimestamp>) -> Result<Option<Timestamp>> {
    value.map(|time| rules::time(field, time.seconds, time.nanos)).transpose()
}

/// Parses an optional duration.
pub fn duration(field: &str, value: Option<&ProtoDuration>) -> Result<Option<Duration>> {
    value.map(|duration| rules::duration(field, duration.seconds, duration.nanos)).transpose()
}

/// Parses an optional duration that has a limit.
pub fn duration_up_to(field: &str, value: Option<&ProtoDuration>, limit: Duration) -> Result<Option<Duration>> {
    duration(field, value)?.map(|duration| rules::duration_up_to(field, duration, limit)).transpose()
}

/// Parses an optional duration of a lease.
pub fn lease_duration(field: &str, value: Option<&ProtoDuration>) -> Result<Option<Duration>> {
    duration(field, value)?.map(|duration| rules::lease_duration(field, duration)).transpose()
}

/// Parses the time that the server may hold a call. Unset means 0; `limits::WAIT` is the maximum.
pub fn wait(value: Option<&ProtoDuration>) -> Result<Duration> {
    Ok(duration("wait", value)?.unwrap_or_default().min(limits::WAIT))
}

/// Parses the caller that reports on a task: the holder of `lease_token`, or an operator if it is unset. A blank token is refused.
pub fn caller(lease_token: Option<&str>) -> Result<Caller> {
    let token = optional_id("lease_token", lease_token)?;
    Ok(token.map_or(Caller::Operator, Caller::Holder))
}

/// Parses the filter of a list or a stream of events.
pub fn event_filter(kinds: &[String], sources: &[String], task_id: Option<&str>) -> Result<EventFilter> {
    Ok(EventFilter {
        kinds: names("kinds", kinds)?,
        sources: names("sources", sources)?,
        task_id: optional_id("task_id", task_id)?,
    })
}

/// Parses a required enum value.
pub fn code<T>(field: &str, code: i32, from_code: impl Fn(i64) -> Option<T>) -> Result<T> {
    if code == 0 {
        return Err(Error::field(field, "must be set"));
    }
    from_code(i64::from(code)).ok_or_else(|| unknown_code(field, code))
}

/// Returns the error for an enum value that the server does not know.
pub fn unknown_code(field: &str, code: i32) -> Error {
    Error::field(field, format!("must be a known value, not {code}"))
}

/// Parses an optional enum value.
pub fn code_or<T>(field: &str, code: i32, default: T, from_code: impl Fn(i64) -> Option<T>) -> Result<T> {
    if code == 0 { Ok(default) } else { self::code(field, code, from_code) }
}

/// Parses a list of enum values. Returns each value once.
pub fn codes<T: Ord>(field: &str, codes: &[i32], from_code: impl Fn(i64) -> Option<T>) -> Result<Vec<T>> {
    let mut values = BTreeSet::new();
    for (at, code) in codes.iter().enumerate() {
        values.insert(self::code(&format!("{field}[{at}]"), *code, &from_code)?);
    }
    Ok(values.into_iter().collect())
}

/// Parses a list of enum values into a bit mask. An empty list means all values.
pub fn code_set<T: Ord>(field: &str, codes: &[i32], from_code: impl Fn(i64) -> Option<T>) -> Result<i64> {
    self::codes(field, codes, from_code)?;
    if codes.is_empty() {
        return Ok(i64::MAX);
    }
    Ok(codes.iter().fold(0, |set, code| set | 1 << code))
}
