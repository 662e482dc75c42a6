//! `InvokeJsonStream` over HTTP: lines of JSON, or server-sent events. The last one is always the status.

use std::convert::Infallible;
use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use oxgrpc_proto::virtufin::InvokeJsonResponse;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Status;

use super::Rest;
use super::routes::{copy_headers, text_of};
use super::transcode::Answers;

pub(super) const PATH: &str = "/v1/gateway/invoke-json-stream";

pub(super) fn add(router: Router<Rest>) -> Router<Rest> {
    router.route(PATH, post(serve))
}

async fn serve(
    State(rest): State<Rest>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match open(&rest, &headers, body).await {
        Err(status) => rest.error(&headers, &status),
        Ok(answers) => {
            let sse = headers
                .get(ACCEPT)
                .and_then(|accept| accept.to_str().ok())
                .is_some_and(|accept| accept.contains("text/event-stream"));
            let headers = answers.headers.clone();
            let lines = lines(rest, answers);
            let mut response = if sse { events(lines) } else { ndjson(lines) };
            copy_headers(&headers, response.headers_mut());
            response
        }
    }
}

async fn open(
    rest: &Rest,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Answers, Status> {
    let text = super::routes::invocation(&text_of(body)?);
    rest.transcoder.stream("virtufin.Gateway.InvokeJsonStream", headers, &text).await
}

/// One line: a message, or the status at the end.
enum Line {
    Message(String),
    Status(Value),
}

type Lines = Pin<Box<dyn Stream<Item = Line> + Send>>;

fn lines(rest: Rest, answers: Answers) -> Lines {
    let Answers { messages, .. } = answers;
    Box::pin(futures_util::stream::unfold(Some(messages), move |messages| {
        let rest = rest.clone();
        async move {
            let mut messages = messages?;
            let octets = match messages.message().await {
                Ok(Some(octets)) => octets,
                Ok(None) => return None,
                Err(status) => return Some((Line::Status(rest.status_line(&status)), None)),
            };
            match InvokeJsonResponse::decode(octets) {
                // Only the last response has a status.
                Ok(response) if response.status.is_empty() => {
                    Some((Line::Message(response.response_data), Some(messages)))
                }
                Ok(response) => Some((Line::Status(last(&response)), None)),
                Err(error) => {
                    let status = Status::internal(error.to_string());
                    Some((Line::Status(rest.status_line(&status)), None))
                }
            }
        }
    }))
}

fn last(response: &InvokeJsonResponse) -> Value {
    let data: Value = serde_json::from_str(&response.response_data).unwrap_or_default();
    json!({
        "success": response.success,
        "status": response.status,
        "message": response.message,
        "details": data.get("details").cloned().unwrap_or_else(|| json!([])),
    })
}

impl Rest {
    /// Returns what the last line says where the stream itself fails.
    pub(super) fn status_line(&self, status: &Status) -> Value {
        let schemas = self.schemas();
        let pools = schemas.iter().map(|schema| schema.schema().pool());
        json!({
            "success": false,
            "status": oxgrpc_schema::code_name(status.code()),
            "message": status.message(),
            "details": oxgrpc_schema::details::decode(status.details(), pools),
        })
    }
}

fn ndjson(lines: Lines) -> Response {
    let lines = lines.map(|line| {
        let line = match line {
            Line::Message(json) => format!("{{\"data\":{json}}}\n"),
            Line::Status(status) => format!("{}\n", json!({ "status": status })),
        };
        Ok::<_, Infallible>(line)
    });
    let content_type = HeaderValue::from_static("application/x-ndjson");
    ([(CONTENT_TYPE, content_type)], Body::from_stream(lines)).into_response()
}

fn events(lines: Lines) -> Response {
    let events = lines.map(|line| {
        Ok::<_, Infallible>(match line {
            Line::Message(json) => Event::default().data(json),
            Line::Status(status) => Event::default().event("status").data(status.to_string()),
        })
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
