//! This module implements ServerService.

use std::time::Duration;

use runhub_api::v1;
use runhub_api::v1::server_service_server::ServerService;
use tonic::{Request, Response};

use super::convert::{count_to_proto, duration_to_proto};
use super::{Hub, Reply};
use crate::domain::server::Server;
use crate::domain::{lease, limits};

#[tonic::async_trait]
impl ServerService for Hub {
    async fn get_server_info(&self, _: Request<v1::GetServerInfoRequest>) -> Reply<v1::GetServerInfoResponse> {
        Ok(Response::new(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: self.store.version().to_owned(),
            log_id: self.store.log_id().to_owned(),
            start_time: Some(self.start_time.into()),
            server_time: Some(self.clock.now().into()),
            limits: Some(list_limits(self.default_lease)),
        }))
    }

    async fn list_servers(&self, _: Request<v1::ListServersRequest>) -> Reply<v1::ListServersResponse> {
        let servers = self.store.list_servers().await?.unwrap_or_else(|| vec![self.describe_itself()]);
        let servers = servers.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListServersResponse { servers }))
    }
}

impl Hub {
    /// Returns the entry of a server that has the database for itself.
    fn describe_itself(&self) -> Server {
        Server {
            id: self.server_id.clone(),
            address: self.advertised.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: self.start_time,
            alive_time: self.clock.now(),
            is_sweeper: true,
        }
    }
}

impl From<Server> for v1::Server {
    fn from(server: Server) -> Self {
        Self {
            id: server.id,
            address: server.address.unwrap_or_default(),
            version: server.version,
            start_time: Some(server.start_time.into()),
            alive_time: Some(server.alive_time.into()),
            is_sweeper: server.is_sweeper,
        }
    }
}

fn list_limits(default_lease: Duration) -> v1::Limits {
    v1::Limits {
        id_bytes: count_to_proto(limits::ID_BYTES),
        name_bytes: count_to_proto(limits::NAME_BYTES),
        label_value_bytes: count_to_proto(limits::LABEL_VALUE_BYTES),
        path_bytes: count_to_proto(limits::PATH_BYTES),
        task_bytes: count_to_proto(limits::TASK_BYTES),
        globs_bytes: count_to_proto(limits::GLOBS_BYTES),
        text_bytes: count_to_proto(limits::TEXT_BYTES),
        value_bytes: count_to_proto(limits::VALUE_BYTES),
        value_depth: count_to_proto(limits::VALUE_DEPTH),
        labels: count_to_proto(limits::LABELS),
        list_entries: count_to_proto(limits::LIST_ENTRIES),
        batch_entries: count_to_proto(limits::BATCH_ENTRIES),
        request_bytes: count_to_proto(limits::REQUEST_BYTES),
        page_size: count_to_proto(limits::PAGE_SIZE),
        page_bytes: count_to_proto(limits::PAGE_BYTES),
        snapshot_bytes: count_to_proto(limits::SNAPSHOT_BYTES),
        min_lease_duration: duration_to_proto(lease::SHORTEST),
        max_lease_duration: duration_to_proto(lease::LONGEST),
        default_lease_duration: duration_to_proto(default_lease),
        max_wait: duration_to_proto(limits::WAIT),
        max_delay: duration_to_proto(limits::DELAY),
        streams_per_connection: i32::try_from(limits::STREAMS_PER_CONNECTION).unwrap_or(i32::MAX),
        max_grace: duration_to_proto(limits::GRACE),
    }
}
