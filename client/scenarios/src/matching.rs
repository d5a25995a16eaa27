//! This module substitutes the variables of a scenario, and compares the actual JSON with the expected JSON.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

pub(crate) type Variables = BTreeMap<String, Value>;

/// Returns a copy of the value in which each string `"$name"` is replaced by the variable of this name. Fails if a
/// variable is not set.
pub(crate) fn substitute(value: &Value, variables: &Variables) -> Result<Value> {
    Ok(match value {
        Value::String(text) => match text.strip_prefix('$') {
            Some(name) => variables
                .get(name)
                .with_context(|| format!("the variable {name} is not set: add `save` to an earlier step"))?
                .clone(),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| substitute(item, variables)).collect::<Result<_>>()?,
        Value::Object(members) => {
            let replaced = members.iter().map(|(key, value)| Ok((key.clone(), substitute(value, variables)?)));
            Value::Object(replaced.collect::<Result<Map<_, _>>>()?)
        }
        other => other.clone(),
    })
}

/// Returns the value at a path such as `tasks.0.id`. The path `.` means the whole value. Returns None if there is no
/// value at the path.
pub(crate) fn value_at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

/// Returns a description of the first difference between the actual and the expected JSON. Returns None if the actual
/// JSON matches.
pub(crate) fn find_difference(expected: &Value, actual: Option<&Value>) -> Option<String> {
    match (expected, actual) {
        (Value::Null, None | Some(Value::Null)) => None,
        (Value::Object(members), Some(Value::Object(others))) => members.iter().find_map(|(key, expected)| {
            let why = find_difference(expected, others.get(key))?;
            Some(format!("{key}: {why}"))
        }),
        (Value::Array(items), Some(Value::Array(others))) if items.len() == others.len() => {
            items.iter().zip(others).enumerate().find_map(|(index, (expected, actual))| {
                let why = find_difference(expected, Some(actual))?;
                Some(format!("{index}: {why}"))
            })
        }
        // The numbers of a google.protobuf.Value are doubles, so the server returns the number 1 as 1.0.
        (Value::Number(expected), Some(Value::Number(actual))) if expected.as_f64() == actual.as_f64() => None,
        (expected, Some(actual)) if expected == actual => None,
        (expected, Some(actual)) => Some(format!("expected {expected}, got {actual}")),
        (expected, None) => Some(format!("expected {expected}, got nothing")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn actual_object_may_have_further_members_but_list_may_not_have_further_entries() {
        let actual = json!({"a": 1, "b": {"c": [1.0, {"d": "x", "e": 2}]}});
        for expected in [json!({}), json!({"a": 1.0}), json!({"b": {"c": [1, {"d": "x"}]}}), json!({"z": null})] {
            assert_eq!(find_difference(&expected, Some(&actual)), None, "{expected}");
        }
        for expected in [json!({"a": 2}), json!({"a": null}), json!({"b": {"c": [1]}}), json!({"z": 0}), json!([])] {
            assert!(find_difference(&expected, Some(&actual)).is_some(), "{expected}");
        }
        let nested = find_difference(&json!({"b": {"c": [1, {"d": "y"}]}}), Some(&actual)).unwrap();
        assert_eq!(nested, r#"b: c: 1: d: expected "y", got "x""#);
    }

    #[test]
    fn variables_are_replaced_at_every_depth_but_not_within_a_longer_string() {
        let variables = Variables::from([("claim".to_owned(), json!({"task": {"id": "t"}}))]);
        let step = json!({"keep_lease": "$claim", "list": [["$claim"]], "text": "costs $claim"});
        let claim = &variables["claim"];
        let expected = json!({"keep_lease": claim, "list": [[claim]], "text": "costs $claim"});
        assert_eq!(substitute(&step, &variables).unwrap(), expected);
        assert!(substitute(&json!("$other"), &variables).is_err());
    }

    #[test]
    fn path_leads_through_objects_and_lists() {
        let value = json!({"tasks": [{"id": "a"}, {"id": "b"}]});
        assert_eq!(value_at(&value, "tasks.1.id"), Some(&json!("b")));
        assert_eq!(value_at(&value, "."), Some(&value));
        assert_eq!(value_at(&value, "tasks.2.id"), None);
        assert_eq!(value_at(&value, "tasks.x"), None);
    }
}
