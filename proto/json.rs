//! This module reads and writes `google.protobuf.Value` as JSON.

use std::fmt;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::de::StrRead;

/// A wrapper with which serde reads and writes a `google.protobuf.Value`. Serialize `Json(&value)`, and deserialize
/// `Json<Value>`.
///
/// Every number is a double. An unset value is written as null, and a whole number below 2⁵³ is written without a
/// fraction.
#[derive(Debug, Clone, PartialEq)]
pub struct Json<T>(pub T);

/// The number 2⁵³. A double represents every smaller whole number exactly.
const EXACT_WHOLE: f64 = 9_007_199_254_740_992.0;

impl Json<Value> {
    /// Parses JSON text and returns the value as a `google.protobuf.Value`.
    ///
    /// # Errors
    /// Fails if the text is not JSON, or if arrays and objects are nested deeper than serde_json's recursion limit.
    pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
        let mut reader = serde_json::Deserializer::new(StrRead::new(text));
        let Json(value) = Json::deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }
}

impl Serialize for Json<&Value> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            None | Some(Kind::NullValue(_)) => to.serialize_unit(),
            Some(Kind::BoolValue(value)) => to.serialize_bool(*value),
            Some(Kind::NumberValue(value)) => serialize_number(*value, to),
            Some(Kind::StringValue(value)) => to.serialize_str(value),
            Some(Kind::ListValue(list)) => to.collect_seq(list.values.iter().map(Json)),
            Some(Kind::StructValue(object)) => {
                let mut map = to.serialize_map(Some(object.fields.len()))?;
                for (key, value) in &object.fields {
                    map.serialize_entry(key, &Json(value))?;
                }
                map.end()
            }
        }
    }
}

fn serialize_number<S: Serializer>(value: f64, to: S) -> Result<S::Ok, S::Error> {
    let negative_zero = value == 0.0 && value.is_sign_negative();
    if value.fract() == 0.0 && value.abs() < EXACT_WHOLE && !negative_zero {
        return to.serialize_i64(value as i64);
    }
    to.serialize_f64(value)
}

impl<'de> Deserialize<'de> for Json<Value> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor).map(Json)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value { kind: Some(Kind::NullValue(0)) })
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value { kind: Some(Kind::BoolValue(value)) })
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value { kind: Some(Kind::NumberValue(value)) })
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value { kind: Some(Kind::StringValue(value)) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = entries.next_element()? {
            values.push(value);
        }
        Ok(Value { kind: Some(Kind::ListValue(ListValue { values })) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Struct::default();
        while let Some((key, Json(value))) = entries.next_entry()? {
            object.fields.insert(key, value);
        }
        Ok(Value { kind: Some(Kind::StructValue(object)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip_preserves_the_value() -> Result<(), serde_json::Error> {
        let text = r#"{"a":[null,true,-1,0.5,1e300,"é\u0000"],"b":{},"c":9007199254740991}"#;
        let value = Json::parse(text)?;
        let written = serde_json::to_value(Json(&value))?;
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text)?);
        Ok(())
    }

    #[test]
    fn whole_numbers_are_written_without_a_fraction() -> Result<(), serde_json::Error> {
        let value = Json::parse("[1.0, -0.0, 2.5]")?;
        assert_eq!(serde_json::to_string(&Json(&value))?, "[1,-0.0,2.5]");
        Ok(())
    }

    #[test]
    fn parse_rejects_text_after_the_value() {
        assert!(Json::parse("1 2").is_err());
    }
}
