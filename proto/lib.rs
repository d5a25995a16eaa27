//! The gRPC API of Runhub, generated from `proto/runhub/v1`, and the conversions that clients and the server share.

mod encoded;
mod json;
mod rpc;
mod snapshot;

pub use encoded::Encoded;
pub use json::Json;
pub use rpc::{Mutation, Paged, RPCS, Request, Rpc};

/// The package `runhub.v1`: messages, clients and servers. The comments of the protos document them.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("runhub.v1");
    // The server code is generated separately, because servers send messages that are already encoded.
    include!(concat!(env!("OUT_DIR"), "/servers/runhub.v1.rs"));
}

/// The encoded `FileDescriptorSet` of `runhub.v1` and its imports, with comments. Reflection serves it.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("runhub_descriptor");

/// The largest message that Runhub's clients accept, in bytes: the limit of a run's snapshot.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
