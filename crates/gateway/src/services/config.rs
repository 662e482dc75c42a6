//! `virtufin.Config`: a read-only view of the registry.

use std::sync::Arc;

use oxgrpc_proto::virtufin::config_server::Config;
use oxgrpc_proto::virtufin::{
    ConfigService, CronJobConfig, GetConfigServiceRequest, GetConfigServiceResponse, GrpcConfig,
    JobsConfig, ListConfigServicesRequest, ListConfigServicesResponse, PubsubConfig, StateConfig,
};
use tonic::{Request, Response, Status};

use crate::backend::Backend;
use crate::registry::Registry;

/// Serves `virtufin.Config`.
#[derive(Clone, Debug)]
pub(crate) struct ConfigView(pub(crate) Arc<Registry>);

#[tonic::async_trait]
impl Config for ConfigView {
    async fn list_services(
        &self,
        _: Request<ListConfigServicesRequest>,
    ) -> Result<Response<ListConfigServicesResponse>, Status> {
        let services = self.0.backends().iter().map(|backend| describe(backend)).collect();
        Ok(Response::new(ListConfigServicesResponse { services }))
    }

    async fn get_service(
        &self,
        request: Request<GetConfigServiceRequest>,
    ) -> Result<Response<GetConfigServiceResponse>, Status> {
        let service = self.0.find(&request.get_ref().name).map(|backend| describe(&backend));
        Ok(Response::new(GetConfigServiceResponse { service }))
    }
}

fn describe(backend: &Backend) -> ConfigService {
    let entry = backend.entry();
    let first = entry.targets.first();
    let crons = entry
        .crons
        .iter()
        .map(|cron| CronJobConfig {
            name: cron.name.clone(),
            schedule: cron.schedule.clone(),
            endpoint: cron.endpoint.clone(),
        })
        .collect();
    ConfigService {
        name: entry.name.clone(),
        dapr_app_id: entry.dapr_app_id.clone(),
        grpc: Some(GrpcConfig {
            host: first.map(|target| target.host.clone()).unwrap_or_default(),
            port: first.map(|target| i32::from(target.port)).unwrap_or_default(),
            reflection_enabled: entry.reflection,
        }),
        pubsub: Some(PubsubConfig { pubsub_name: entry.pubsub_name.clone() }),
        state: Some(StateConfig { store_name: entry.store_name.clone() }),
        jobs: Some(JobsConfig { crons }),
    }
}
