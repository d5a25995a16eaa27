//! Messages as JSON, in protobuf's own mapping: what grpcurl shows.

use std::io::Write;
use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::Failure;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).ok());

/// One line of JSON for a message of the package; unset fields that have no presence are shown too.
pub fn line(name: &str, message: &impl Message) -> Result<String, Failure> {
    to_json(name, message).map_err(|cause| Failure::failed(format!("can't show {name} as JSON: {cause}")))
}

/// One line for each message of a list.
pub fn lines<M: Message>(out: &mut impl Write, name: &str, messages: &[M]) -> Result<(), Failure> {
    for message in messages {
        writeln!(out, "{}", line(name, message)?)?;
    }
    Ok(())
}

fn to_json(name: &str, message: &impl Message) -> Result<String, Box<dyn std::error::Error>> {
    let pool = POOL.as_ref().ok_or("the descriptors can't be read")?;
    let descriptor = pool.get_message_by_name(&format!("runhub.v1.{name}")).ok_or("no such message")?;
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
    fn a_message_is_shown_as_grpcurl_shows_it() {
        let payload = prost_types::Value::from("x");
        let event = v1::Event { position: 7, payload: Some(payload), ..v1::Event::default() };
        let shown: serde_json::Value = serde_json::from_str(&line("Event", &event).unwrap()).unwrap();
        assert_eq!(shown["position"], "7");
        assert_eq!(shown["payload"], "x");
        assert_eq!(shown["runId"], "");
    }
}
