//! Messages as protobuf's JSON, by the descriptors that reflection serves.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).ok());

fn pool() -> Result<&'static DescriptorPool> {
    POOL.as_ref().context("the descriptors can't be read")
}

/// `TaskService/ClaimTask`, say.
pub(crate) fn method(name: &str) -> Result<MethodDescriptor> {
    let (service, rpc) = name.split_once('/').with_context(|| format!("{name:?} is no SERVICE/RPC"))?;
    let service = pool()?.get_service_by_name(&format!("runhub.v1.{service}"));
    let method = service.and_then(|service| service.methods().find(|method| method.name() == rpc));
    method.with_context(|| format!("there is no {name}"))
}

fn message(name: &str) -> Result<MessageDescriptor> {
    pool()?.get_message_by_name(&format!("runhub.v1.{name}")).with_context(|| format!("there is no message {name}"))
}

/// Encodes what the JSON says.
pub(crate) fn encode(kind: MessageDescriptor, json: &Value) -> Result<Vec<u8>> {
    // What is left out is empty: a call without a request.
    let empty = Value::Object(serde_json::Map::new());
    let json = if json.is_null() { &empty } else { json };
    Ok(DynamicMessage::deserialize(kind, json)?.encode_to_vec())
}

/// With the proto's names, and without defaults.
pub(crate) fn decode(kind: MessageDescriptor, bytes: &[u8]) -> Result<Value> {
    let message = DynamicMessage::decode(kind, bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// The generated message, by its name, that the JSON says.
pub(crate) fn typed<M: Message + Default>(name: &str, json: &Value) -> Result<M> {
    Ok(M::decode(encode(message(name)?, json)?.as_slice())?)
}

/// The JSON of a generated message.
pub(crate) fn untyped(name: &str, generated: &impl Message) -> Result<Value> {
    decode(message(name)?, &generated.encode_to_vec())
}
