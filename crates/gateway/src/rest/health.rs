//! `/health` and `/metrics`.

use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::Rest;
use crate::backend::Health;

/// Answers 200 if state and events work and 503 if they do not. A backend that is down degrades the gateway, which still
/// serves.
pub(super) async fn health(State(rest): State<Rest>) -> Response {
    let begun = Instant::now();
    let mut entries = Map::new();
    let mut healthy = true;
    for (name, outcome) in rest.health_checks().await {
        healthy &= outcome.is_ok();
        entries.insert(
            name.to_owned(),
            match outcome {
                Ok(()) => json!({ "status": "Healthy" }),
                Err(reason) => json!({ "status": "Unhealthy", "description": reason }),
            },
        );
    }
    let (pool, degraded) = rest.pool();
    entries.insert("grpc-channel-pool".to_owned(), pool);
    let status = match (healthy, degraded) {
        (false, _) => "Unhealthy",
        (true, true) => "Degraded",
        (true, false) => "Healthy",
    };
    let took = begun.elapsed();
    let body = json!({
        "status": status,
        "totalDuration": format!(
            "{:02}:{:02}:{:02}.{:07}",
            took.as_secs() / 3600,
            took.as_secs() / 60 % 60,
            took.as_secs() % 60,
            took.subsec_nanos() / 100
        ),
        "entries": entries,
    });
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(body)).into_response()
}

pub(super) async fn metrics(State(rest): State<Rest>) -> Response {
    let text = rest.metrics.text(&rest.registry, rest.bus.counts());
    let content_type =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(CONTENT_TYPE, content_type)], text).into_response()
}

impl Rest {
    async fn health_checks(&self) -> [(&'static str, Result<(), String>); 2] {
        let (state, pubsub) = tokio::join!(self.store.health(), self.bus.health());
        [
            ("state", state.map_err(|error| error.to_string())),
            ("pubsub", pubsub.map_err(|error| error.to_string())),
        ]
    }

    /// Describes the backends' hosts, and tells whether one is down.
    fn pool(&self) -> (Value, bool) {
        let mut degraded = false;
        let mut data = Map::new();
        for backend in self.registry.backends() {
            let hosts: Vec<Value> = backend
                .hosts()
                .iter()
                .map(|host| {
                    let (status, reason) = match host.health() {
                        Health::Unknown => ("Unknown", None),
                        Health::Serving => ("Healthy", None),
                        Health::Down { reason, .. } => ("Unhealthy", Some(reason)),
                    };
                    degraded |= reason.is_some();
                    json!({ "host": host.target().to_string(), "status": status, "description": reason })
                })
                .collect();
            data.insert(backend.entry().name.clone(), Value::Array(hosts));
        }
        let mut pool =
            json!({ "status": if degraded { "Degraded" } else { "Healthy" }, "data": data });
        if let Some(rejected) = self.registry.rejected() {
            pool["description"] = Value::String(format!("the registry file is wrong: {rejected}"));
        }
        (pool, degraded)
    }
}
