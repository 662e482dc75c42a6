//! Dapr's API on the gateway's own state and pub/sub, so that Dapr's SDKs work without a sidecar: their gRPC port is the
//! gateway's, their HTTP port the gateway's HTTP port.
//!
//! What is supported: publish, bulk publish, streaming subscriptions, state (get, save, delete, bulk, transactions), health.
//! Every other RPC answers UNIMPLEMENTED and names what to use instead (`unsupported.rs`).

mod envelope;
mod http;
mod publish;
mod service;
mod state;
mod subscription;
mod unsupported;

use std::sync::Arc;

use tonic::Status;

use crate::pubsub::{Bus, PUBSUB_NAME};
use crate::state::{Changes, Store};

pub use unsupported::DaprGrpc;

/// The component names that Dapr's callers use.
#[derive(Clone, Debug)]
pub struct Components {
    /// The pub/sub component.
    pub pubsub: String,
    /// The state store; also the service that its keys belong to.
    pub state_store: String,
}

impl Default for Components {
    fn default() -> Self {
        Self { pubsub: PUBSUB_NAME.into(), state_store: "statestore".into() }
    }
}

/// Serves Dapr's API.
#[derive(Clone)]
pub struct Dapr {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    changes: Changes,
    components: Arc<Components>,
}

impl Dapr {
    /// Serves a store and a bus under the names of the components.
    pub fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>, components: Components) -> Self {
        let changes = Changes { bus: bus.clone() };
        Self { store, bus, changes, components: Arc::new(components) }
    }

    /// Returns the service `dapr.proto.runtime.v1.Dapr`.
    pub fn grpc(&self) -> DaprGrpc {
        DaprGrpc::new(self.clone())
    }

    /// Returns the routes below `/v1.0/`.
    pub fn http(&self) -> axum::Router {
        http::routes(self.clone())
    }

    /// Returns an error unless the store and the bus answer.
    async fn health(&self) -> Result<(), Status> {
        self.store.health().await?;
        self.bus.health().await?;
        Ok(())
    }

    fn check_pubsub(&self, name: &str) -> Result<(), Status> {
        let known = &self.components.pubsub;
        match name {
            "" => Err(Status::invalid_argument("the pub/sub component's name is empty")),
            _ if name == known => Ok(()),
            _ => Err(Status::not_found(format!(
                "the pub/sub component {name:?} is not found: the gateway has {known:?}"
            ))),
        }
    }

    fn check_store(&self, name: &str) -> Result<(), Status> {
        let known = &self.components.state_store;
        match name {
            "" => Err(Status::invalid_argument("the state store's name is empty")),
            _ if name == known => Ok(()),
            _ => Err(Status::invalid_argument(format!(
                "the state store {name:?} is not found: the gateway has {known:?}"
            ))),
        }
    }
}

impl std::fmt::Debug for Dapr {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Dapr").field("components", &self.components).finish_non_exhaustive()
    }
}
