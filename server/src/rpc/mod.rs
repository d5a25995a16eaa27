//! The services. A handler parses the request, calls one function of `actions`, and converts the result.
//!
//! Mutating calls go through `Hub::write`, reading calls through `Hub::read` and `Hub::read_page`. A read that is one
//! statement calls the function of its table in `store`.

pub mod admission;
mod agent;
mod approval;
mod artifact;
mod attempt;
mod checkpoint;
mod claim;
mod convert;
mod event;
mod field;
mod list_events;
mod overload_log;
mod page;
mod plan;
mod read;
mod run;
mod server;
mod snapshot;
mod status;
mod subscribe;
mod task;
pub mod trace;
pub(crate) mod value;
mod write;

use std::sync::Arc;
use std::time::Duration;

use runhub_api::Encoded;
use runhub_api::v1::agent_service_server::AgentServiceServer;
use runhub_api::v1::approval_service_server::ApprovalServiceServer;
use runhub_api::v1::artifact_service_server::ArtifactServiceServer;
use runhub_api::v1::checkpoint_service_server::CheckpointServiceServer;
use runhub_api::v1::event_service_server::EventServiceServer;
use runhub_api::v1::run_service_server::RunServiceServer;
use runhub_api::v1::server_service_server::ServerServiceServer;
use runhub_api::v1::task_service_server::TaskServiceServer;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::{Response, Status};

use crate::actions::paths::Overlaps;
use crate::clock::Clock;
use crate::domain::limits as domain_limits;
use crate::domain::time::Timestamp;
use crate::store::Store;
use crate::wake::Waiters;
use crate::watch::{TAIL_SIZE, Tail};

/// The answer of a handler.
pub type Reply<T> = Result<Response<T>, Status>;

/// The implementation of all services, one file for each. Clones share everything.
#[derive(Clone)]
pub struct Hub {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    overlaps: Arc<Overlaps>,
    tail: Arc<Tail<ShownEvent>>,
    /// The duration of a lease whose claim sets none.
    default_lease: Duration,
    start_time: Timestamp,
    /// Becomes true when the server shuts down.
    draining: watch::Receiver<bool>,
}

/// An event as watchers receive it, encoded once for all of them.
pub type ShownEvent = Encoded;

/// Returns the tail of a store's log, which holds the events that commit from now on.
pub fn tail_of(store: &Store) -> Tail<ShownEvent> {
    Tail::new(*store.log_growth().borrow(), TAIL_SIZE)
}

impl Hub {
    /// Creates the services of a store.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        waiters: Arc<Waiters>,
        tail: Arc<Tail<ShownEvent>>,
        default_lease: Duration,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let start_time = clock.now();
        Self { store, clock, waiters, overlaps: Arc::default(), tail, default_lease, start_time, draining }
    }
}

macro_rules! services {
    ($($server:ident),+ $(,)?) => {
        impl Hub {
            /// The names of all services.
            pub const SERVICES: &[&str] = &[$($server::<Self>::NAME),+];

            /// Adds every service, with the limit on the size of requests.
            pub fn add_to(&self, routes: &mut RoutesBuilder) {
                $(routes.add_service(
                    $server::new(self.clone()).max_decoding_message_size(domain_limits::REQUEST_BYTES),
                );)+
            }
        }
    };
}

services!(
    RunServiceServer,
    AgentServiceServer,
    TaskServiceServer,
    EventServiceServer,
    ApprovalServiceServer,
    CheckpointServiceServer,
    ArtifactServiceServer,
    ServerServiceServer,
);
