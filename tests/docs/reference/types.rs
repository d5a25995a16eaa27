//! The messages and enums that several RPCs share.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::api::Api;
use super::text::{EVENTS, Prose};
use super::{events, limits};

pub fn messages(api: &Api, prose: &Prose) -> String {
    let mut text = "## Messages\n".to_owned();
    for message in api.messages().iter().filter(|message| message.name() != limits::MESSAGE) {
        let comment = api.comment(message);
        let comment = if message.name() == events::MESSAGE { &events::without_kinds(comment) } else { comment };
        text += &format!("\n### {}\n\n{}", message.name(), prose.blocks(comment));
        if message.name() == events::MESSAGE {
            text += &format!("[Events by kind](#{EVENTS}) has the kinds and their payloads.\n\n");
        }
        text += &field_table(api, prose, message);
    }
    text
}

pub fn enums(api: &Api, prose: &Prose) -> String {
    let mut text = "## Enums\n".to_owned();
    // The reasons have a section of their own.
    for one in api.enums().iter().filter(|one| one.name() != "ErrorReason") {
        text += &format!("\n### {}\n\n{}", one.name(), prose.blocks(api.comment(one)));
        text += "| Value | Number | Meaning |\n|---|--:|---|\n";
        for value in one.values() {
            text += &format!("| `{}` | {} | {} |\n", value.name(), value.number(), prose.cell(api.comment(&value)));
        }
    }
    text
}

/// Returns a table with a row for each field.
pub fn field_table(api: &Api, prose: &Prose, message: &MessageDescriptor) -> String {
    let mut table = "| Field | Type | Meaning |\n|---|---|---|\n".to_owned();
    for field in api.fields(message) {
        table += &format!("| `{}` | {} | {} |\n", field.name(), type_of(&field), prose.cell(api.comment(&field)));
    }
    table
}

fn type_of(field: &FieldDescriptor) -> String {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let of = |field: FieldDescriptor| kind(&field.kind());
        return format!("map of {} to {}", of(entry.map_entry_key_field()), of(entry.map_entry_value_field()));
    }
    let name = kind(&field.kind());
    let is_optional = field.field_descriptor_proto().proto3_optional();
    match field.containing_oneof().filter(|_| !is_optional) {
        Some(oneof) => format!("{name}, one of `{}`", oneof.name()),
        None if is_optional => format!("optional {name}"),
        None if field.is_list() => format!("repeated {name}"),
        None => name,
    }
}

/// Returns the name of a type, linked if the type has a section.
fn kind(kind: &Kind) -> String {
    let (name, package) = match kind {
        Kind::Message(message) => (message.name().to_owned(), message.package_name().to_owned()),
        Kind::Enum(one) => (one.name().to_owned(), one.package_name().to_owned()),
        scalar => return format!("{scalar:?}").to_lowercase(),
    };
    if package.starts_with("google.") { name } else { format!("[{name}](#{})", name.to_lowercase()) }
}
