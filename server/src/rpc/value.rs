//! Converts `google.protobuf.Value` to JSON text and back.

use prost::Message;
use prost_types::Value;
use prost_types::value::Kind;
use runhub_api::Json as ProtoJson;

use crate::domain::field::{value_bytes, value_depth, value_number};
use crate::domain::json::Json;
use crate::error::{Error, Result};

/// Returns the JSON text of a value from outside. An unset value is null. Fails if the value is over a limit.
pub fn json_from_proto(field: &str, value: Option<&Value>) -> Result<Json> {
    let Some(value) = value else { return Ok(Json::null()) };
    value_bytes(field, value.encoded_len())?;
    check(field, value, 0)?;
    serde_json::to_string(&ProtoJson(value)).map(Json::from_text).map_err(Error::internal)
}

/// Returns the value of JSON text that came from `json_from_proto` or from the server itself. A text that is not JSON is
/// logged and becomes unset, so that one broken row does not hide all others.
pub fn json_to_proto(json: &Json) -> Option<Value> {
    match ProtoJson::parse(json.text()) {
        Ok(value) => Some(value),
        Err(cause) => {
            tracing::error!(%cause, "a stored value is not JSON");
            None
        }
    }
}

fn check(field: &str, value: &Value, depth: usize) -> Result<()> {
    match &value.kind {
        Some(Kind::NumberValue(number)) => value_number(field, *number),
        Some(Kind::ListValue(list)) => {
            value_depth(field, depth)?;
            list.values.iter().try_for_each(|entry| check(field, entry, depth + 1))
        }
        Some(Kind::StructValue(object)) => {
            value_depth(field, depth)?;
            object.fields.values().try_for_each(|entry| check(field, entry, depth + 1))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::default(), |inner, _| Value::from(vec![inner]))
    }

    #[test]
    fn values_nest_at_most_24_levels() {
        assert!(json_from_proto("payload", Some(&nested(24))).is_ok());
        assert!(json_from_proto("payload", Some(&nested(25))).is_err());
    }

    #[test]
    fn numbers_must_be_finite() {
        assert!(json_from_proto("payload", Some(&Value::from(f64::NAN))).is_err());
        assert!(json_from_proto("payload", Some(&Value::from(f64::INFINITY))).is_err());
        assert!(json_from_proto("payload", Some(&Value::from(f64::MAX))).is_ok());
    }

    #[test]
    fn values_have_at_most_1_mib() {
        let of_size = |size: usize| Value::from("x".repeat(size - 4));
        assert_eq!(of_size(limits::VALUE_BYTES).encoded_len(), limits::VALUE_BYTES);
        assert!(json_from_proto("payload", Some(&of_size(limits::VALUE_BYTES))).is_ok());
        assert!(json_from_proto("payload", Some(&of_size(limits::VALUE_BYTES + 1))).is_err());
    }

    #[test]
    fn doubles_survive_the_round_trip_bit_for_bit() {
        for number in [0.1, 1e-7, 123_456_789.123_456_79, f64::MIN_POSITIVE, f64::MAX, -5e-324] {
            let value = Value::from(number);
            let json = json_from_proto("payload", Some(&value)).unwrap();
            assert_eq!(json_to_proto(&json), Some(value), "{number}");
        }
    }

    #[test]
    fn unset_value_is_null() {
        assert_eq!(json_from_proto("payload", None), Ok(Json::null()));
        assert_eq!(json_to_proto(&Json::null()), Some(Value { kind: Some(Kind::NullValue(0)) }));
    }
}
