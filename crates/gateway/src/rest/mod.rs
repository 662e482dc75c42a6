//! REST on the HTTP port: routes that are gRPC methods in JSON, and a few of their own.
//!
//! Every route calls the same gRPC services as the gRPC port serves, in process, so that there is one implementation of each.

mod grpc;
mod health;
mod invoke;
mod openapi;
mod routes;
mod stream;
mod transcode;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use axum::routing::get;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower::Layer as _;

pub(crate) use transcode::Transcoder;

use crate::backend::HostSchema;
use crate::invoke::Invoker;
use crate::metrics::Metrics;
use crate::pubsub::Bus;
use crate::registry::Registry;
use crate::serve::observe::label;
use crate::state::Store;

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Rest {
    pub(crate) transcoder: Transcoder,
    pub(crate) invoker: Invoker,
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Returns the router of the HTTP port: REST, the routes of `beside` (Dapr's HTTP API, the console), and gRPC-Web for
/// everything else.
pub(crate) fn router(rest: Rest, beside: Router, grpc: &Routes, max_body_bytes: usize) -> Router {
    let mut router = Router::new()
        .route("/health", get(health::health))
        .route("/healthz", get(health::health))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/swagger", get(openapi::page));
    router = routes::add(router);
    router = invoke::add(router);
    router = stream::add(router);
    router = grpc::add(router);
    let web = GrpcWebLayer::new().layer(grpc.clone());
    router
        .with_state(rest)
        .merge(beside)
        .route_layer(from_fn(label))
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .fallback_service(Fallback { web })
}

impl Rest {
    /// Returns the schemas of the backends that are at hand: for details of errors that came from one of them.
    pub(crate) fn schemas(&self) -> Vec<Arc<HostSchema>> {
        self.registry
            .backends()
            .iter()
            .flat_map(|backend| backend.hosts().to_vec())
            .filter_map(|host| host.schema_at_hand())
            .collect()
    }
}

mod fallback;
use fallback::Fallback;
