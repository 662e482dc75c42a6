//! API keys: one check for gRPC, gRPC-Web and REST.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;
use tonic::Status;

use super::refuse;
use crate::config::ApiKey;

/// The header, or gRPC metadata, that carries a key.
const API_KEY: &str = "x-api-key";

/// The same for clients of Dapr, which can set only this one (`DAPR_API_TOKEN`).
const DAPR_API_TOKEN: &str = "dapr-api-token";

/// Answered without a key: probes of health, and pages that hold no data and ask for a key themselves.
const PUBLIC: [&str; 8] = [
    "/",
    "/favicon.ico",
    "/health",
    "/healthz",
    "/openapi.json",
    "/swagger",
    "/v1.0/healthz",
    "/v1.0/healthz/outbound",
];
const PUBLIC_PREFIXES: [&str; 2] = ["/console/", "/grpc.health.v1.Health/"];

/// Admits requests that carry one of the keys, and all if there are none. The key goes no further.
pub(crate) async fn check(
    State(keys): State<Arc<[ApiKey]>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !keys.is_empty() && !is_public(request.uri().path()) {
        let headers = request.headers();
        let given = headers.get(API_KEY).or_else(|| headers.get(DAPR_API_TOKEN));
        let refused = match given {
            None => Some("the API key is missing: send it as x-api-key"),
            Some(given) if !is_known(&keys, given.as_bytes()) => Some("the API key is not known"),
            Some(_) => None,
        };
        if let Some(reason) = refused {
            return refuse(headers, &Status::unauthenticated(reason));
        }
    }
    request.headers_mut().remove(API_KEY);
    request.headers_mut().remove(DAPR_API_TOKEN);
    next.run(request).await
}

fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || PUBLIC_PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// Compares with all keys, whichever matches, so that the time tells nothing but lengths.
fn is_known(keys: &[ApiKey], given: &[u8]) -> bool {
    let mut known = subtle::Choice::from(0);
    for key in keys {
        known |= key.secret.as_bytes().ct_eq(given);
    }
    known.into()
}
