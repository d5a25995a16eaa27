//! This module converts messages to protobuf's JSON format and back. The conversion uses the descriptors of the API.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).ok());

fn descriptor_pool() -> Result<&'static DescriptorPool> {
    POOL.as_ref().context("the descriptors of the API can't be decoded: report the bug")
}

/// Returns the descriptor of the RPC with a name such as `TaskService/ClaimTask`. Fails if the API has no RPC with this
/// name.
pub(crate) fn find_method(name: &str) -> Result<MethodDescriptor> {
    let (service, rpc) = name
        .split_once('/')
        .with_context(|| format!("{name:?} is not the name of an RPC: use the form SERVICE/RPC"))?;
    let service = descriptor_pool()?.get_service_by_name(&format!("runhub.v1.{service}"));
    let method = service.and_then(|service| service.methods().find(|method| method.name() == rpc));
    method.with_context(|| format!("the API has no RPC {name}: correct the step's `call`"))
}

fn message_descriptor(name: &str) -> Result<MessageDescriptor> {
    descriptor_pool()?
        .get_message_by_name(&format!("runhub.v1.{name}"))
        .with_context(|| format!("the API has no message {name}: report the bug"))
}

/// Encodes a message that is written in JSON, and returns the bytes. Null means an empty message. Fails if the JSON
/// does not fit the type of the message.
pub(crate) fn encode(kind: MessageDescriptor, json: &Value) -> Result<Vec<u8>> {
    let empty = Value::Object(serde_json::Map::new());
    let json = if json.is_null() { &empty } else { json };
    Ok(DynamicMessage::deserialize(kind, json)?.encode_to_vec())
}

/// Decodes a message and returns it in JSON, with the proto's field names and without default values. Fails if the
/// bytes are malformed.
pub(crate) fn decode(kind: MessageDescriptor, bytes: &[u8]) -> Result<Value> {
    let message = DynamicMessage::decode(kind, bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Converts JSON to a generated message. The parameter `name` is the name of the message in the proto. Fails if the
/// JSON does not fit the type of the message.
pub(crate) fn to_message<M: Message + Default>(name: &str, json: &Value) -> Result<M> {
    Ok(M::decode(encode(message_descriptor(name)?, json)?.as_slice())?)
}

/// Converts a generated message to JSON. The parameter `name` is the name of the message in the proto. Fails if the
/// proto has no message with this name.
pub(crate) fn from_message(name: &str, generated: &impl Message) -> Result<Value> {
    decode(message_descriptor(name)?, &generated.encode_to_vec())
}
