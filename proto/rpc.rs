//! The catalogue of RPCs, generated from the option `(runhub.v1.rpc)` at each RPC.

use prost::Message;

use crate::v1;
use crate::v1::Admission;

/// The facts about one RPC.
#[derive(Debug, PartialEq, Eq)]
pub struct Rpc {
    /// The RPC's name, "ClaimTask".
    pub name: &'static str,
    /// The path of its HTTP/2 request, "/runhub.v1.TaskService/ClaimTask".
    pub path: &'static str,
    /// The RPC changes state.
    pub mutates: bool,
    /// How the server treats the RPC when it is overloaded.
    pub admission: Admission,
    /// The RPC answers in pages.
    pub paged: bool,
}

impl Rpc {
    /// Returns the RPC with this HTTP/2 path, or None if the path belongs to another API.
    pub fn by_path(path: &str) -> Option<&'static Self> {
        RPCS.iter().find(|rpc| rpc.path == path)
    }
}

/// The request message of an RPC.
pub trait Request: Message + Default + Clone + 'static {
    /// The RPC that takes this request.
    const RPC: &'static Rpc;

    /// Returns the request_id for writing, or None if the RPC takes none.
    fn request_id_mut(&mut self) -> Option<&mut String> {
        None
    }

    /// Returns how long the server may hold the call, or None if the RPC has no `wait` or the request does not set it.
    fn wait_mut(&mut self) -> Option<&mut prost_types::Duration> {
        None
    }
}

/// A request that changes state and has a request_id.
pub trait Mutation: Request {
    /// Returns the request_id as the caller set it; empty if the call is not to be remembered.
    fn request_id(&self) -> &str;

    /// Returns what makes two calls with one request_id the same: everything but the request_id and `wait`.
    fn content(&self) -> Self;
}

/// A request for one page of a list.
pub trait Paged: Request {
    /// Takes `page_size` and `page_token` out of the request, which leaves the query.
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
            assert_eq!(Rpc::by_path(rpc.path), Some(rpc));
            assert!(rpc.path.ends_with(&format!("/{}", rpc.name)));
        }
        assert_eq!(Rpc::by_path("/grpc.health.v1.Health/Check"), None);
    }

    #[test]
    fn only_heartbeat_mutates_without_a_request_id() {
        let pool = descriptors();
        for rpc in &RPCS {
            let method = pool.iter().find(|(name, _)| name == rpc.name);
            let (_, fields) = method.expect("every RPC of the catalogue is in the descriptor");
            let has = |name: &str| fields.iter().any(|field| field == name);
            let takes_id = rpc.mutates && rpc.name != "Heartbeat";
            assert_eq!(has("request_id"), takes_id, "{}", rpc.name);
            assert_eq!(has("page_token"), rpc.paged, "{}", rpc.name);
        }
    }

    /// Returns the name of every RPC with the fields of its request.
    fn descriptors() -> Vec<(String, Vec<String>)> {
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
