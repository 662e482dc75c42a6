//! The console's files, which are part of this binary.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};

/// Nothing comes from elsewhere, nothing goes elsewhere, and no page of another site may frame this one.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

macro_rules! assets {
    ($($name:literal: $kind:literal),* $(,)?) => {
        [$(($name, $kind, include_bytes!(concat!("../../console/", $name)) as &[u8])),*]
    };
}

const ASSETS: [(&str, &str, &[u8]); 12] = assets! {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "form.js": "text/javascript; charset=utf-8",
    "call.js": "text/javascript; charset=utf-8",
    "copy.js": "text/javascript; charset=utf-8",
    "history.js": "text/javascript; charset=utf-8",
    "topics.js": "text/javascript; charset=utf-8",
    "state.js": "text/javascript; charset=utf-8",
};

pub(super) async fn index() -> Response {
    respond("index.html")
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    respond(&name)
}

fn respond(name: &str) -> Response {
    let Some((_, kind, content)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (CONTENT_TYPE, *kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // A newer gateway has newer files under the same names.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), *content).into_response()
}
