//! `google.protobuf.Value` to JSON text and back.

use prost::Message;
use prost_types::Value;
use prost_types::value::Kind;
use runhub_api::Json as ProtoJson;

use crate::domain::json::Json;
use crate::domain::limits;
use crate::error::{Error, Result};

/// JSON text of what a caller brought; unset is null.
pub fn json_from_proto(field: &str, value: Option<&Value>) -> Result<Json> {
    let Some(value) = value else { return Ok(Json::null()) };
    let bytes = value.encoded_len();
    if bytes > limits::VALUE_BYTES {
        return Err(Error::field(field, format!("has {bytes} bytes encoded, over {}", limits::VALUE_BYTES)));
    }
    check(field, value, 0)?;
    serde_json::to_string(&ProtoJson(value)).map(Json::from_text).map_err(Error::internal)
}

/// The value of JSON text that came from `json_from_proto` or the server itself.
pub fn json_to_proto(json: &Json) -> Option<Value> {
    match ProtoJson::parse(json.text()) {
        Ok(value) => Some(value),
        Err(cause) => {
            tracing::error!(%cause, "a stored value is no JSON");
            None
        }
    }
}

fn check(field: &str, value: &Value, depth: usize) -> Result<()> {
    match &value.kind {
        Some(Kind::NumberValue(number)) if !number.is_finite() => {
            Err(Error::field(field, "has a number that is not finite"))
        }
        Some(Kind::ListValue(list)) => {
            check_depth(field, depth)?;
            list.values.iter().try_for_each(|entry| check(field, entry, depth + 1))
        }
        Some(Kind::StructValue(object)) => {
            check_depth(field, depth)?;
            object.fields.values().try_for_each(|entry| check(field, entry, depth + 1))
        }
        _ => Ok(()),
    }
}

fn check_depth(field: &str, depth: usize) -> Result<()> {
    if depth >= limits::VALUE_DEPTH {
        return Err(Error::field(field, format!("nests deeper than {} levels", limits::VALUE_DEPTH)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::default(), |inner, _| Value::from(vec![inner]))
    }

    #[test]
    fn it_may_nest_24_levels_deep() {
        assert!(json_from_proto("payload", Some(&nested(24))).is_ok());
        assert!(json_from_proto("payload", Some(&nested(25))).is_err());
    }

    #[test]
    fn numbers_are_finite() {
        assert!(json_from_proto("payload", Some(&Value::from(f64::NAN))).is_err());
        assert!(json_from_proto("payload", Some(&Value::from(f64::INFINITY))).is_err());
        assert!(json_from_proto("payload", Some(&Value::from(f64::MAX))).is_ok());
    }

    #[test]
    fn it_may_have_a_mebibyte() {
        let of_size = |size: usize| Value::from("x".repeat(size - 4));
        assert_eq!(of_size(limits::VALUE_BYTES).encoded_len(), limits::VALUE_BYTES);
        assert!(json_from_proto("payload", Some(&of_size(limits::VALUE_BYTES))).is_ok());
        assert!(json_from_proto("payload", Some(&of_size(limits::VALUE_BYTES + 1))).is_err());
    }

    #[test]
    fn doubles_come_back_to_the_bit() {
        for number in [0.1, 1e-7, 123_456_789.123_456_79, f64::MIN_POSITIVE, f64::MAX, -5e-324] {
            let value = Value::from(number);
            let json = json_from_proto("payload", Some(&value)).unwrap();
            assert_eq!(json_to_proto(&json), Some(value), "{number}");
        }
    }

    #[test]
    fn unset_is_null() {
        assert_eq!(json_from_proto("payload", None), Ok(Json::null()));
        assert_eq!(json_to_proto(&Json::null()), Some(Value { kind: Some(Kind::NullValue(0)) }));
    }
}
