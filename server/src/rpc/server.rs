//! This module implements ServerService.

use std::time::Duration;

use runhub_api::v1;
use runhub_api::v1::server_service_server::ServerService;
use tonic::{Request, Response};

use super::convert::{count_to_proto, duration_to_proto};
use super::{Hub, Reply};
use crate::domain::{lease, limits};
use crate::store;

#[tonic::async_trait]
impl ServerService for Hub {
    async fn get_server_info(&self, _: Request<v1::GetServerInfoRequest>) -> Reply<v1::GetServerInfoResponse> {
        Ok(Response::new(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: store::version(),
            log_id: self.store.log_id().to_owned(),
            start_time: Some(self.start_time.into()),
            server_time: Some(self.clock.now().into()),
            limits: Some(list_limits(self.default_lease)),
        }))
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
