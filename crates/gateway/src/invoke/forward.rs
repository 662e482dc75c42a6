//! Which of a caller's headers a backend receives: all but those that belong to the connection, to the browser, or to us.

use http::{HeaderMap, HeaderName};

/// Headers that describe one connection or one encoding of the body, not the call.
const HOP: [&str; 18] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "pragma",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "if-none-match",
];

/// Headers of browsers and of gRPC-Web, and the gateway's own keys: never for backends.
const OURS: [&str; 8] = [
    "cookie",
    "dapr-api-token",
    "dnt",
    "origin",
    "referer",
    "x-api-key",
    "x-grpc-web",
    "x-user-agent",
];

/// gRPC's own headers are set anew for each call; these two are context that applications read.
const CONTEXT: [&str; 2] = ["grpc-trace-bin", "grpc-tags-bin"];

/// Returns whether a header goes on to the backend.
fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    if name.starts_with("grpc-") {
        return CONTEXT.contains(&name);
    }
    !(HOP.contains(&name)
        || OURS.contains(&name)
        || name.starts_with("sec-")
        || name.starts_with("proxy-")
        || name.starts_with("access-control-"))
}

/// Copies the headers that go on, octet by octet.
pub(crate) fn forwardable(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if is_forwarded(name) {
            forwarded.append(name.clone(), value.clone());
        }
    }
    forwarded
}
