//! The console: pages for people who look rather than read, and the few routes that only they need.
//!
//! The pages are static files in this binary. They use the gateway's REST routes, and under `/v1/console` what REST lacks: a
//! schema with all its nested types, and calls of all four kinds whose requests come one by one. These routes pass the same
//! authorization and the same checks of `Host` and `Origin` as all others.

mod assets;
mod calls;
mod describe;
mod services;

use axum::Router;
use axum::routing::{delete, get, post};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::invoke::Invoker;
use crate::registry::Registry;
use calls::Calls;

/// What the routes of the console work with.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    invoker: Invoker,
    registry: Arc<Registry>,
    calls: Calls,
    /// Where gRPC is served: what copied commands name.
    grpc: SocketAddr,
}

/// Returns the pages and their routes.
pub(crate) fn router(invoker: Invoker, registry: Arc<Registry>, grpc: SocketAddr) -> Router {
    let console = Console { invoker, registry, calls: Calls::default(), grpc };
    Router::new()
        .route("/", get(assets::index))
        .route("/console/{file}", get(assets::file))
        .route("/v1/console/services", get(services::list))
        .route("/v1/console/schema/{service}/{method}", get(describe::describe))
        .route("/v1/console/calls", post(calls::begin))
        .route("/v1/console/calls/{id}", delete(calls::cancel))
        .route("/v1/console/calls/{id}/messages", post(calls::send))
        .route("/v1/console/calls/{id}/end", post(calls::end))
        .with_state(console)
}
