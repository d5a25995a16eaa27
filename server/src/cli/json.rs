//! This module converts protobuf messages to JSON in the protobuf JSON mapping, which grpcurl also uses.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::{Failure, out};

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).ok());

/// Returns a message as one line of JSON. The line includes fields with default values, but
/// omits unset fields that the proto declares optional. Fails if the message can't be converted.
fn to_json_line(name: &str, message: &impl Message) -> Result<String, Failure> {
    to_json(name, message).map_err(|cause| {
        Failure::failed(format!("the message {name} can't be shown as JSON, because {cause}: report the bug"))
    })
}

/// Prints a message of the package runhub.v1 as one line of JSON, as `to_json_line` returns it. Fails if the message can't
/// be converted or the output can't be written.
pub fn print(name: &str, message: &impl Message) -> Result<(), Failure> {
    Ok(out::print_json(&to_json_line(name, message)?)?)
}

/// Prints each message as one line of JSON. Fails if a message can't be converted or the output can't be written.
pub fn print_each<M: Message>(name: &str, messages: &[M]) -> Result<(), Failure> {
    messages.iter().try_for_each(|message| print(name, message))
}

fn to_json(name: &str, message: &impl Message) -> Result<String, Box<dyn std::error::Error>> {
    let pool = POOL.as_ref().ok_or("the built-in descriptors are invalid")?;
    let descriptor = pool
        .get_message_by_name(&format!("runhub.v1.{name}"))
        .ok_or("the message is not in the built-in descriptors")?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let mut text = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)?;
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use runhub_api::v1;

    use super::*;

    #[test]
    fn message_has_the_json_that_grpcurl_prints() {
        let payload = prost_types::Value::from("x");
        let event = v1::Event { position: 7, payload: Some(payload), ..v1::Event::default() };
        let shown: serde_json::Value = serde_json::from_str(&to_json_line("Event", &event).unwrap()).unwrap();
        assert_eq!(shown["position"], "7");
        assert_eq!(shown["payload"], "x");
        assert_eq!(shown["runId"], "");
    }
}
