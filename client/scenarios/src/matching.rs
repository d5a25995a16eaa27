//! Variables, and what was wanted against what came.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

pub(crate) type Variables = BTreeMap<String, Value>;

/// The value with `"$name"` replaced by the variable.
pub(crate) fn substitute(value: &Value, variables: &Variables) -> Result<Value> {
    Ok(match value {
        Value::String(text) => match text.strip_prefix('$') {
            Some(name) => variables.get(name).with_context(|| format!("nothing was saved as {name}"))?.clone(),
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

/// What stands at a path such as `tasks.0.id`; `.` is all of it.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

/// Where they differ, or None if what came is as wanted.
pub(crate) fn difference(wanted: &Value, came: Option<&Value>) -> Option<String> {
    let found = |why: String| Some(why);
    match (wanted, came) {
        (Value::Null, None | Some(Value::Null)) => None,
        (Value::Object(members), Some(Value::Object(others))) => members
            .iter()
            .find_map(|(key, wanted)| difference(wanted, others.get(key)).map(|why| format!("{key}: {why}"))),
        (Value::Array(items), Some(Value::Array(others))) if items.len() == others.len() => {
            let mut pairs = items.iter().zip(others).enumerate();
            pairs.find_map(|(at, (wanted, came))| difference(wanted, Some(came)).map(|why| format!("{at}: {why}")))
        }
        (Value::Number(wanted), Some(Value::Number(came))) if wanted.as_f64() == came.as_f64() => None,
        (wanted, Some(came)) if wanted == came => None,
        (wanted, Some(came)) => found(format!("wanted {wanted}, came {came}")),
        (wanted, None) => found(format!("wanted {wanted}, nothing came")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wanted_may_be_less_than_what_came_but_for_lists() {
        let came = json!({"a": 1, "b": {"c": [1.0, {"d": "x", "e": 2}]}});
        for wanted in [json!({}), json!({"a": 1.0}), json!({"b": {"c": [1, {"d": "x"}]}}), json!({"z": null})] {
            assert_eq!(difference(&wanted, Some(&came)), None, "{wanted}");
        }
        for wanted in [json!({"a": 2}), json!({"a": null}), json!({"b": {"c": [1]}}), json!({"z": 0}), json!([])] {
            assert!(difference(&wanted, Some(&came)).is_some(), "{wanted}");
        }
        let nested = difference(&json!({"b": {"c": [1, {"d": "y"}]}}), Some(&came)).unwrap();
        assert_eq!(nested, r#"b: c: 1: d: wanted "y", came "x""#);
    }

    #[test]
    fn variables_are_replaced_wherever_they_stand_as_they_are() {
        let variables = Variables::from([("claim".to_owned(), json!({"task": {"id": "t"}}))]);
        let step = json!({"hold": "$claim", "list": [["$claim"]], "text": "costs $claim"});
        let claim = &variables["claim"];
        let expected = json!({"hold": claim, "list": [[claim]], "text": "costs $claim"});
        assert_eq!(substitute(&step, &variables).unwrap(), expected);
        assert!(substitute(&json!("$other"), &variables).is_err());
    }

    #[test]
    fn a_path_leads_through_objects_and_lists() {
        let value = json!({"tasks": [{"id": "a"}, {"id": "b"}]});
        assert_eq!(at(&value, "tasks.1.id"), Some(&json!("b")));
        assert_eq!(at(&value, "."), Some(&value));
        assert_eq!(at(&value, "tasks.2.id"), None);
        assert_eq!(at(&value, "tasks.x"), None);
    }
}
