//! What the console's first page shows: services, their hosts' health and their methods.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Console;
use crate::backend::{Backend, Health};

/// Lists the services. One whose schema cannot be had says why.
pub(super) async fn list(State(console): State<Console>) -> Response {
    let backends = console.registry.backends();
    let described = backends.iter().map(|backend| describe(&console, backend));
    let services = futures_util::future::join_all(described).await;
    Json(json!({ "services": services, "grpc": console.grpc.to_string() })).into_response()
}

async fn describe(console: &Console, backend: &Backend) -> Value {
    let (methods, error) = match console.invoker.schema(backend).await {
        Ok(schema) => {
            let services = schema.schema().services(false);
            let methods = services.iter().flat_map(|service| service.methods().collect::<Vec<_>>());
            let methods = methods.map(|method| {
                json!({
                    "name": method.name(),
                    "fullName": method.full_name(),
                    "path": oxgrpc_schema::path(&method).as_str(),
                    "clientStreaming": method.is_client_streaming(),
                    "serverStreaming": method.is_server_streaming(),
                })
            });
            (methods.collect(), Value::Null)
        }
        Err(status) => (Vec::new(), status.message().into()),
    };
    // Asked last: fetching the schema is what tells whether a host answers.
    let hosts = backend.hosts().iter().map(|host| {
        let (health, reason, since) = match host.health() {
            Health::Unknown => ("unknown", None, None),
            Health::Serving => ("serving", None, None),
            Health::Down { since, reason } => {
                let since = prost_types::Timestamp::from(since).to_string();
                ("down", Some(reason), Some(since))
            }
        };
        json!({
            "address": host.target().to_string(),
            "tls": host.target().tls,
            "health": health,
            "reason": reason,
            "since": since,
        })
    });
    let hosts: Vec<Value> = hosts.collect();
    json!({ "name": backend.entry().name, "hosts": hosts, "methods": methods, "error": error })
}
