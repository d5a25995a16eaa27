//! This module converts `google.protobuf.Value` to JSON text and back.

use prost::Message;
use prost_types::Value;
use prost_types::value::Kind;
use runhub_api::Json as ProtoJson;

use crate::domain::field::{value_bytes, value_depth, value_number};
use crate::domain::json::Json;
use crate::error::{Error, Result};

/// Converts a value from a request to JSON text. An unset value becomes null. Fails if the encoded value is larger than
/// `limits::VALUE_BYTES`, nests arrays and objects more than `limits::VALUE_DEPTH` levels deep, or contains a number
/// that is not finite.
pub fn json_from_proto(field: &str, value: Option<&Value>) -> Result<Json> {
    let Some(value) = value else { return Ok(Json::null()) };
    value_bytes(field, value.encoded_len())?;
    check_value(field, value, 0)?;
    serde_json::to_string(&ProtoJson(value)).map(Json::from_text).map_err(Error::internal)
}

/// Converts JSON text from the store to a value. If the text is not valid JSON, the function logs an error and returns
/// None, so that one invalid row does not hide the other rows.
pub fn json_to_proto(json: &Json) -> Option<Value> {
    match ProtoJson::parse(json.text()) {
        Ok(value) => Some(value),
        Err(cause) => {
            tracing::error!(%cause, "a stored value is not JSON");
            None
        }
    }
}

fn check_value(field: &str, value: &Value, depth: usize) -> Result<()> {
    match &value.kind {
        Some(Kind::NumberValue(number)) => value_number(field, *number),
        Some(Kind::ListValue(list)) => {
            value_depth(field, depth)?;
            list.values.iter().try_for_each(|entry| check_value(field, entry, depth + 1))
        }
        Some(Kind::StructValue(object)) => {
            value_depth(field, depth)?;
            object.fields.values().try_for_each(|entry| check_value(field, entry, depth + 1))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits;

    fn build_nested_list(levels: usize) -> Value {
        (0..levels).fold(Value::default(), |inner, _| Value::from(vec![inner]))
    }

    #[test]
    fn values_nest_at_most_24_levels() {
        assert!(json_from_proto("payload", Some(&build_nested_list(24))).is_ok());
        assert!(json_from_proto("payload", Some(&build_nested_list(25))).is_err());
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
    fn round_trip_preserves_every_bit_of_a_double() {
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
