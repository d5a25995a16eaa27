//! This module implements the gRPC services. A handler parses the request, calls one function of `actions`, and
//! converts the result.
//!
//! Mutating calls use `Hub::write`, and reading calls use `Hub::read` or `Hub::read_page`. If a read is a single
//! statement, the handler calls the function in `store` directly.

mod admission;
mod agent;
mod approval;
mod artifact;
mod attempt;
pub mod calls;
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
pub mod snapshot;
mod status;
mod stored_response;
mod subscribe;
mod task;
mod trace;
pub(crate) mod value;
mod write;

use std::sync::Arc;
use std::time::Duration;

use runhub_api::EncodedResponse;
use runhub_api::v1::agent_service_server::AgentServiceServer;
use runhub_api::v1::approval_service_server::ApprovalServiceServer;
use runhub_api::v1::artifact_service_server::ArtifactServiceServer;
use runhub_api::v1::checkpoint_service_server::CheckpointServiceServer;
use runhub_api::v1::event_service_server::EventServiceServer;
use runhub_api::v1::run_service_server::RunServiceServer;
use runhub_api::v1::server_service_server::ServerServiceServer;
use runhub_api::v1::task_service_server::TaskServiceServer;
use tokio::sync::{Semaphore, watch};
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::{Response, Status};

use self::snapshot::reads::SnapshotReads;
use self::snapshot::spool::Spool;
use crate::actions::claim_index::{ClaimIndex, Loading};
use crate::actions::idle_claims::IdleClaims;
use crate::actions::paths::Overlaps;
use crate::clock::{Clock, IdGenerator};
use crate::domain::limits as domain_limits;
use crate::domain::time::Timestamp;
use crate::store::Store;
use crate::wake::Waiters;
use crate::watch::{TAIL_SIZE, Tail};

/// Maximum number of calls that count the obstacles to their claims at the same time: half of the readers.
const COUNTING_CALLS: usize = 4;

/// The result of a handler: a response or a status.
pub type Reply<T> = Result<Response<T>, Status>;

/// The implementation of all services, with one file for each service. Clones share the store and all other state.
#[derive(Clone)]
pub struct Hub {
    store: Store,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    overlaps: Arc<Overlaps>,
    claim_index: Arc<ClaimIndex>,
    idle_claims: Arc<IdleClaims>,
    /// The pages of the claim index that calls have read. A call holds the outer lock while the call loads the index.
    loading: Arc<tokio::sync::Mutex<Arc<std::sync::Mutex<Loading>>>>,
    /// One permit for each call that may count the obstacles to its claim at the same time.
    counting: Arc<Semaphore>,
    tail: Arc<Tail<EncodedEvent>>,
    spool: Arc<Spool>,
    snapshots: Arc<SnapshotReads>,
    /// The lease duration of a claim that requests none.
    default_lease: Duration,
    /// The id of a server that has the database for itself.
    server_id: String,
    /// The address at which clients reach the server. If the operator has set no address, the value is None.
    advertised: Option<String>,
    start_time: Timestamp,
    /// A flag that becomes true when the server starts to shut down.
    draining: watch::Receiver<bool>,
}

/// The settings that the services use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lease duration of a claim that requests none.
    pub default_lease: Duration,
    /// The address at which clients reach the server. If the operator has set no address, the value is None.
    pub advertised: Option<String>,
}

/// An encoded event. Each event is encoded once, and all watchers receive the same bytes.
pub type EncodedEvent = EncodedResponse;

/// Returns a new tail of the store's log. The tail will contain the events that commit after this call.
pub fn new_tail(store: &Store) -> Tail<EncodedEvent> {
    Tail::new(*store.log_growth().borrow(), TAIL_SIZE)
}

impl Hub {
    /// Returns the services for a store.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        waiters: Arc<Waiters>,
        tail: Arc<Tail<EncodedEvent>>,
        spool: Arc<Spool>,
        settings: Settings,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let start_time = clock.now();
        let server_id = IdGenerator::new().next(start_time);
        let Settings { default_lease, advertised } = settings;
        let overlaps = Arc::<Overlaps>::default();
        let claim_index = Arc::new(ClaimIndex::new(Arc::clone(&overlaps)));
        Self {
            store,
            clock,
            waiters,
            overlaps,
            claim_index,
            idle_claims: Arc::default(),
            loading: Arc::default(),
            counting: Arc::new(Semaphore::new(COUNTING_CALLS)),
            tail,
            spool,
            snapshots: Arc::default(),
            default_lease,
            server_id,
            advertised,
            start_time,
            draining,
        }
    }
}

macro_rules! services {
    ($($server:ident),+ $(,)?) => {
        impl Hub {
            /// The full names of all gRPC services.
            pub const SERVICES: &[&str] = &[$($server::<Self>::NAME),+];

            /// Adds every service to the routes, with `limits::REQUEST_BYTES` as the maximum size of a request.
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
