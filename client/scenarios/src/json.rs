//! Conversion between messages and protobuf's JSON, with the descriptors that reflection serves.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).ok());

fn pool() -> Result<&'static DescriptorPool> {
    POOL.as_ref().context("the descriptors of the API can't be decoded")
}

/// Returns the RPC with a name such as `TaskService/ClaimTask`. Fails if there is none.
pub(crate) fn method(name: &str) -> Result<MethodDescriptor> {
    let (service, rpc) =
        name.split_once('/').with_context(|| format!("{name:?} does not have the form SERVICE/RPC"))?;
    let service = pool()?.get_service_by_name(&format!("runhub.v1.{service}"));
    let method = service.and_then(|service| service.methods().find(|method| method.name() == rpc));
    method.with_context(|| format!("there is no RPC {name}"))
}

fn message(name: &str) -> Result<MessageDescriptor> {
    pool()?.get_message_by_name(&format!("runhub.v1.{name}")).with_context(|| format!("there is no message {name}"))
}

/// Encodes a message that is given as JSON. Null is an empty message.
pub(crate) fn encode(kind: MessageDescriptor, json: &Value) -> Result<Vec<u8>> {
    let empty = Value::Object(serde_json::Map::new());
    let json = if json.is_null() { &empty } else { json };
    Ok(DynamicMessage::deserialize(kind, json)?.encode_to_vec())
}

/// Decodes a message to JSON with the proto's field names and without default values.
pub(crate) fn decode(kind: MessageDescriptor, bytes: &[u8]) -> Result<Value> {
    let message = DynamicMessage::decode(kind, bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Converts JSON to a generated message, whose proto has this name.
pub(crate) fn typed<M: Message + Default>(name: &str, json: &Value) -> Result<M> {
    Ok(M::decode(encode(message(name)?, json)?.as_slice())?)
}

/// Converts a generated message, whose proto has this name, to JSON.
pub(crate) fn untyped(name: &str, generated: &impl Message) -> Result<Value> {
    decode(message(name)?, &generated.encode_to_vec())
}
