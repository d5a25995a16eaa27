//! Parsing a request's fields. What can't be taken is refused by the field's name, before anything is touched.

use std::collections::BTreeSet;
use std::time::Duration;

use prost_types::{Timestamp as ProtoTimestamp, Value};

use super::value;

use crate::domain::event::{EventFilter, SYSTEM};
use crate::domain::glob::Glob;
use crate::domain::json::Json;
use crate::domain::time::Timestamp;
use crate::domain::{Labels, lease, limits};
use crate::error::{Error, Result};

/// An id naming what the call is about.
pub fn id(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    at_most(field, value, limits::ID_BYTES)?;
    Ok(value.to_owned())
}

/// An id that may be left out; blank is not left out.
pub fn optional_id(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| id(field, value)).transpose()
}

/// An id that may be empty, which means "any".
pub fn id_or_any(field: &str, value: &str) -> Result<Option<String>> {
    if value.is_empty() { Ok(None) } else { id(field, value).map(Some) }
}

/// A required name: of a role, source, kind, agent, capability.
pub fn name(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    plain_name(field, value)
}

/// Who says something: anybody but the server itself.
pub fn source(field: &str, value: &str) -> Result<String> {
    if value == SYSTEM {
        return Err(Error::field(field, "is the server's own: nobody else can write as it"));
    }
    name(field, value)
}

/// A name that may be left out; blank is left out.
pub fn optional_name(field: &str, value: Option<&str>) -> Result<Option<String>> {
    let name = value.map(|value| plain_name(field, value)).transpose()?;
    Ok(name.filter(|name| !name.trim().is_empty()))
}

/// A name that may be blank.
pub fn plain_name(field: &str, value: &str) -> Result<String> {
    at_most(field, value, limits::NAME_BYTES)?;
    if value.chars().any(char::is_control) {
        return Err(Error::field(field, "has a control character"));
    }
    Ok(value.to_owned())
}

/// A list of names, each of which may be blank.
pub fn names(field: &str, values: &[String]) -> Result<Vec<String>> {
    entries(field, values, plain_name)
}

/// A list of names or ids of other things: none may be blank.
pub fn references(field: &str, values: &[String]) -> Result<Vec<String>> {
    entries(field, values, name)
}

/// A text that may be blank.
pub fn text(field: &str, value: &str) -> Result<String> {
    at_most(field, value, limits::TEXT_BYTES)?;
    no_nul(field, value)?;
    Ok(value.to_owned())
}

/// A text that must say something.
pub fn required_text(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    text(field, value)
}

/// A text that may be left out.
pub fn optional_text(field: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| text(field, value)).transpose()
}

/// A list of texts.
pub fn texts(field: &str, values: &[String]) -> Result<Vec<String>> {
    entries(field, values, text)
}

/// A required path.
pub fn path(field: &str, value: &str) -> Result<String> {
    not_blank(field, value)?;
    at_most(field, value, limits::PATH_BYTES)?;
    no_nul(field, value)?;
    Ok(value.to_owned())
}

/// A path that may be left out or blank.
pub fn optional_path(field: &str, value: Option<&str>) -> Result<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    at_most(field, value, limits::PATH_BYTES)?;
    no_nul(field, value)?;
    Ok(Some(value.to_owned()))
}

/// A list of patterns of paths. What all of them have together is limited too: each is compared with each of another's.
pub fn globs(field: &str, values: &[String]) -> Result<Vec<String>> {
    let bytes: usize = values.iter().map(String::len).sum();
    if bytes > limits::GLOBS_BYTES && values.len() <= limits::LIST_ENTRIES {
        return Err(Error::field(field, format!("have {bytes} bytes together, over {}", limits::GLOBS_BYTES)));
    }
    entries(field, values, |field, value| {
        let pattern = path(field, value)?;
        Glob::parse(&pattern).map(|_| pattern).map_err(|problem| Error::field(field, problem))
    })
}

/// A duration of a lease that may be left out.
pub fn lease_duration(field: &str, value: Option<&prost_types::Duration>) -> Result<Option<Duration>> {
    let duration = duration(field, value)?;
    match duration.filter(|duration| !(lease::SHORTEST..=lease::LONGEST).contains(duration)) {
        Some(_) => Err(Error::field(field, "is outside 1 s to 24 h")),
        None => Ok(duration),
    }
}

/// A duration that may be left out and has a top.
pub fn duration_up_to(field: &str, value: Option<&prost_types::Duration>, top: Duration) -> Result<Option<Duration>> {
    let duration = duration(field, value)?;
    if duration.is_some_and(|duration| duration > top) {
        return Err(Error::field(field, format!("is over {} s", top.as_secs())));
    }
    Ok(duration)
}

/// How long a call may be held: left out not at all, and never longer than the longest wait.
pub fn wait(field: &str, value: Option<&prost_types::Duration>) -> Result<Duration> {
    Ok(duration(field, value)?.unwrap_or_default().min(limits::WAIT))
}

/// A lease token, or None for an operator. Blank is neither.
pub fn lease_token(value: Option<&str>) -> Result<Option<String>> {
    optional_id("lease_token", value)
}

/// Labels: their number, their keys and their values.
pub fn labels(field: &str, labels: &Labels) -> Result<Labels> {
    if labels.len() > limits::LABELS {
        return Err(Error::field(field, format!("has {} labels, over {}", labels.len(), limits::LABELS)));
    }
    for (key, value) in labels {
        plain_name(field, key)?;
        at_most(field, value, limits::LABEL_VALUE_BYTES)?;
        no_nul(field, value)?;
    }
    Ok(labels.clone())
}

/// A number that counts something.
pub fn count(field: &str, value: i32) -> Result<i32> {
    if value < 0 { Err(Error::field(field, "is negative")) } else { Ok(value) }
}

/// A position or a revision.
pub fn counter(field: &str, value: Option<i64>) -> Result<Option<i64>> {
    match value {
        Some(number) if number < 0 => Err(Error::field(field, "is negative")),
        other => Ok(other),
    }
}

/// Any JSON.
pub fn json(field: &str, value: Option<&Value>) -> Result<Json> {
    value::json_from_proto(field, value)
}

/// A point in time that may be left out.
pub fn time(field: &str, value: Option<&ProtoTimestamp>) -> Result<Option<Timestamp>> {
    let Some(value) = value else { return Ok(None) };
    let time = Timestamp::from_seconds_and_nanos(value.seconds, value.nanos);
    time.map(Some).ok_or_else(|| Error::field(field, "is no time between the years 1 and 9999"))
}

/// A duration that may be left out.
pub fn duration(field: &str, value: Option<&prost_types::Duration>) -> Result<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    let parts = (u64::try_from(value.seconds), u32::try_from(value.nanos));
    match parts {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(Error::field(field, "is negative or no duration")),
    }
}

/// A value of an enum that must be given.
pub fn code<T>(field: &str, code: i32, known: impl Fn(i64) -> Option<T>) -> Result<T> {
    if code == 0 {
        return Err(Error::field(field, "is required"));
    }
    known(i64::from(code)).ok_or_else(|| Error::field(field, format!("has no value {code}")))
}

/// A value of an enum that may be left out.
pub fn code_or<T>(field: &str, code: i32, default: T, known: impl Fn(i64) -> Option<T>) -> Result<T> {
    if code == 0 { Ok(default) } else { self::code(field, code, known) }
}

/// Some of an enum's values, each once.
pub fn codes<T: Ord>(field: &str, codes: &[i32], known: impl Fn(i64) -> Option<T>) -> Result<Vec<T>> {
    let values = codes.iter().enumerate().map(|(at, code)| self::code(&format!("{field}[{at}]"), *code, &known));
    let values: BTreeSet<T> = values.collect::<Result<_>>()?;
    Ok(values.into_iter().collect())
}

/// A set of an enum's values as a bit mask; none given means all.
pub fn code_set<T: Ord>(field: &str, codes: &[i32], known: impl Fn(i64) -> Option<T>) -> Result<i64> {
    self::codes(field, codes, known)?;
    let set = codes.iter().fold(0, |set, code| set | 1 << code);
    Ok(if codes.is_empty() { i64::MAX } else { set })
}

/// Refuses more entries in one call than are taken.
pub fn batch(field: &str, entries: usize) -> Result<()> {
    if entries > limits::BATCH_ENTRIES {
        return Err(Error::field(field, format!("has {entries} entries, over {}", limits::BATCH_ENTRIES)));
    }
    Ok(())
}

fn entries(field: &str, values: &[String], each: impl Fn(&str, &str) -> Result<String>) -> Result<Vec<String>> {
    if values.len() > limits::LIST_ENTRIES {
        return Err(Error::field(field, format!("has {} entries, over {}", values.len(), limits::LIST_ENTRIES)));
    }
    values.iter().enumerate().map(|(at, value)| each(&format!("{field}[{at}]"), value)).collect()
}

fn not_blank(field: &str, value: &str) -> Result<()> {
    if value.trim().is_empty() { Err(Error::field(field, "is blank")) } else { Ok(()) }
}

fn at_most(field: &str, value: &str, bytes: usize) -> Result<()> {
    if value.len() > bytes {
        return Err(Error::field(field, format!("has {} bytes, over {bytes}", value.len())));
    }
    Ok(())
}

/// PostgreSQL can't hold it in a text; what one store refuses the other does too.
fn no_nul(field: &str, value: &str) -> Result<()> {
    if value.contains('\0') { Err(Error::field(field, "has a NUL character")) } else { Ok(()) }
}

/// Which events a list or a stream is asked for.
pub fn event_filter(kinds: &[String], sources: &[String], task_id: Option<&str>) -> Result<EventFilter> {
    Ok(EventFilter {
        kinds: names("kinds", kinds)?,
        sources: names("sources", sources)?,
        task_id: optional_id("task_id", task_id)?,
    })
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
    fn names_are_short_and_without_control_characters() {
        assert!(name("role", &"é".repeat(128)).is_ok());
        assert!(problem(name("role", &"é".repeat(129))).unwrap().contains("258 bytes"));
        assert!(problem(name("role", "a\u{7f}")).unwrap().contains("control"));
        assert!(problem(name("role", " \t")).unwrap().contains("blank"));
    }

    #[test]
    fn texts_may_be_blank_and_have_lines_but_no_nul() {
        assert!(text("summary", "").is_ok());
        assert!(text("summary", "a\nb").is_ok());
        assert!(problem(text("summary", "a\0")).unwrap().contains("NUL"));
        assert!(text("summary", &"x".repeat(limits::TEXT_BYTES)).is_ok());
        assert!(text("summary", &"x".repeat(limits::TEXT_BYTES + 1)).is_err());
    }

    #[test]
    fn an_entry_is_named_by_its_index() {
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
}
