//! Messages as JSON in the protobuf mapping, which is also what grpcurl prints.

use std::io::Write;
use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::Failure;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).ok());

/// Returns a message of the package runhub.v1 as one line of JSON, with unset fields that have no presence.
pub fn line(name: &str, message: &impl Message) -> Result<String, Failure> {
    to_json(name, message).map_err(|cause| Failure::failed(format!("can't show {name} as JSON: {cause}")))
}

/// Prints one line for each message.
pub fn lines<M: Message>(out: &mut impl Write, name: &str, messages: &[M]) -> Result<(), Failure> {
    for message in messages {
        writeln!(out, "{}", line(name, message)?)?;
    }
    Ok(())
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
        let shown: serde_json::Value = serde_json::from_str(&line("Event", &event).unwrap()).unwrap();
        assert_eq!(shown["position"], "7");
        assert_eq!(shown["payload"], "x");
        assert_eq!(shown["runId"], "");
    }
}
