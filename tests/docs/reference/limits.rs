//! The limits, with the values that a server without flags reports.

use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};

use super::api::Api;
use super::text::Prose;
use crate::server;

/// The message that has the limits.
pub const MESSAGE: &str = "Limits";

pub fn section(api: &Api, prose: &Prose) -> String {
    let message = api.message(MESSAGE);
    let limits = server::default_limits().encode_to_vec();
    let limits = DynamicMessage::decode(message.clone(), limits.as_slice()).unwrap();
    let mut text = format!("## Limits\n\n{}", prose.blocks(api.comment(&message)));
    text += "[GetServerInfo](#getserverinfo) returns this message. The values are those of a server without flags.\n\n";
    text += "| Field | Value | Meaning |\n|---|--:|---|\n";
    for field in api.fields(&message) {
        let value = shown(&field, &limits.get_field(&field));
        text += &format!("| `{}` | {value} | {} |\n", field.name(), prose.cell(api.comment(&field)));
    }
    text
}

fn shown(field: &FieldDescriptor, value: &Value) -> String {
    match value {
        Value::I32(bytes) if field.name().ends_with("_bytes") => {
            in_units((*bytes).into(), &[(1024 * 1024, "MiB"), (1024, "KiB"), (1, "bytes")])
        }
        Value::I32(count) => grouped(*count),
        Value::Message(duration) => {
            let seconds = duration.get_field_by_name("seconds").unwrap().as_i64().unwrap();
            in_units(seconds, &[(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")])
        }
        other => panic!("{} is {other:?}", field.name()),
    }
}

/// Returns an amount in the largest unit of which it is a whole number.
fn in_units(amount: i64, units: &[(i64, &str)]) -> String {
    let (unit, name) = units.iter().find(|(unit, _)| amount % unit == 0).unwrap();
    format!("{} {name}", amount / unit)
}

/// Separates the thousands.
fn grouped(count: i32) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

#[test]
fn amounts_have_units_and_counts_have_separators() {
    let units = [(60, "min"), (1, "s")];
    assert_eq!([in_units(600, &units), in_units(90, &units)], ["10 min", "90 s"]);
    assert_eq!([grouped(64), grouped(1_000), grouped(1_234_567)], ["64", "1,000", "1,234,567"]);
}
