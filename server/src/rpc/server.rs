//! ServerService.

use runhub_api::v1;
use runhub_api::v1::server_service_server::ServerService;
use tonic::{Request, Response, Status};

use super::{Hub, limits};
use crate::store;

#[tonic::async_trait]
impl ServerService for Hub {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: store::version(),
            log_id: self.store.log_id().to_owned(),
            start_time: Some(self.start_time.into()),
            server_time: Some(self.clock.now().into()),
            limits: Some(limits::shown(self.default_lease)),
        }))
    }
}
