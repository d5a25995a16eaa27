//! This crate contains the gRPC API of Runhub, generated from `proto/runhub/v1`, and the conversions that the clients
//! and the server share.

mod encoded;
mod json;
mod rpc;
mod snapshot;

pub use encoded::EncodedResponse;
pub use json::Json;
pub use rpc::{Mutation, Paged, RPCS, Request, Rpc};

/// The generated messages, clients and servers of the package `runhub.v1`. The comments in the protos document the API.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("runhub.v1");
    // The server code is generated separately, because a server sends encoded messages (`EncodedResponse`) to watchers.
    include!(concat!(env!("OUT_DIR"), "/servers/runhub.v1.rs"));
}

/// The encoded `FileDescriptorSet` of `runhub.v1` and of the imports of `runhub.v1`, including comments. The server's
/// reflection service returns this descriptor.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("runhub_descriptor");

/// Maximum size of a message that Runhub's clients accept, in bytes. The maximum size of a run's snapshot equals this
/// value.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
