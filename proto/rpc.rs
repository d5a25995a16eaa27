//! This module defines the catalogue of RPCs, generated from the option `(runhub.v1.rpc)` of each RPC.

use prost::Message;

use crate::v1;
use crate::v1::Admission;

/// The properties of one RPC.
#[derive(Debug, PartialEq, Eq)]
pub struct Rpc {
    /// The name of the RPC, for example "ClaimTask".
    pub name: &'static str,
    /// The path of the RPC's HTTP/2 request, for example "/runhub.v1.TaskService/ClaimTask".
    pub path: &'static str,
    /// If the RPC changes state, the value is true.
    pub mutates: bool,
    /// The admission of the RPC, which specifies how an overloaded server treats a call of the RPC.
    pub admission: Admission,
    /// If the RPC returns its results in pages, the value is true.
    pub paged: bool,
    /// If the RPC returns a stream of responses, the value is true.
    pub streams: bool,
    /// The maximum size of the RPC's response in bytes, or None if the size is at most 4 MiB.
    pub max_response_bytes: Option<usize>,
}

impl Rpc {
    /// Returns the RPC whose HTTP/2 path is `path`, or None if `path` belongs to another API.
    pub fn find_by_path(path: &str) -> Option<&'static Self> {
        RPCS.iter().find(|rpc| rpc.path == path)
    }
}

/// A message that is the request of an RPC.
pub trait Request: Message + Default + Clone + 'static {
    /// The RPC that takes this request.
    const RPC: &'static Rpc;

    /// Returns a mutable reference to the request's request_id, or None if the RPC has no request_id.
    fn request_id_mut(&mut self) -> Option<&mut String> {
        None
    }

    /// Returns a mutable reference to the time for which the server may hold the call. Returns None if the RPC has no
    /// `wait` or the request does not set `wait`.
    fn wait_mut(&mut self) -> Option<&mut prost_types::Duration> {
        None
    }
}

/// A request that changes state and has a request_id.
pub trait Mutation: Request {
    /// Returns the request_id that the caller set. If the request_id is empty, the server does not detect duplicates of
    /// the call.
    fn request_id(&self) -> &str;

    /// Returns the id of the run that the request names, or an empty text.
    fn run_id(&self) -> &str {
        ""
    }

    /// Returns the id of the task that the request ends, or an empty text.
    fn ended_task_id(&self) -> &str {
        ""
    }

    /// Returns the content that duplicate requests have in common: all fields except the request_id and `wait`.
    fn content(&self) -> Self;
}

/// A request for one page of a list.
pub trait Paged: Request {
    /// Removes `page_size` and `page_token` from the request and returns both values. The remaining fields are the
    /// query.
    fn take_page(&mut self) -> (i32, String);
}

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_is_found_by_its_path() {
        assert!(RPCS.len() > 40);
        for rpc in &RPCS {
            assert_eq!(Rpc::find_by_path(rpc.path), Some(rpc));
            assert!(rpc.path.ends_with(&format!("/{}", rpc.name)));
        }
        assert_eq!(Rpc::find_by_path("/grpc.health.v1.Health/Check"), None);
    }

    #[test]
    fn only_heartbeat_mutates_without_a_request_id() {
        let pool = list_request_fields();
        for rpc in &RPCS {
            let method = pool.iter().find(|(name, _)| name == rpc.name);
            let (_, fields) = method.expect("every RPC of the catalogue is in the descriptor");
            let has = |name: &str| fields.iter().any(|field| field == name);
            let takes_id = rpc.mutates && rpc.name != "Heartbeat";
            assert_eq!(has("request_id"), takes_id, "{}", rpc.name);
            assert_eq!(has("page_token"), rpc.paged, "{}", rpc.name);
        }
    }

    /// Returns the name of every RPC, together with the names of the fields of the RPC's request.
    fn list_request_fields() -> Vec<(String, Vec<String>)> {
        let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).expect("the descriptor is valid");
        let ours = set.file.iter().filter(|file| file.package() == "runhub.v1");
        let messages: Vec<_> = ours.clone().flat_map(|file| &file.message_type).collect();
        let methods = ours.flat_map(|file| &file.service).flat_map(|service| &service.method);
        let fields_of = |method: &prost_types::MethodDescriptorProto| {
            let input = method.input_type().trim_start_matches(".runhub.v1.").to_owned();
            let message = messages.iter().find(|message| message.name() == input).expect("the request exists");
            message.field.iter().map(|field| field.name().to_owned()).collect()
        };
        methods.map(|method| (method.name().to_owned(), fields_of(method))).collect()
    }
}
