//! Calls of all four kinds, made from a page: one request begins a call and streams what it answers, others send its
//! messages, end its requests and cancel it.
//!
//! ```text
//!   POST /v1/console/calls ─────────────► {"id"} {"headers"} {"message"} … {"status"}     lines of JSON
//!   POST /v1/console/calls/ID/messages ──► one request message
//!   POST /v1/console/calls/ID/end ───────► no more request messages
//!   DELETE /v1/console/calls/ID, or the first response is dropped: cancelled
//! ```
//!
//! Plain HTTP requests, not a WebSocket: they carry an API key in a header like any other.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use oxgrpc_schema::prost_reflect::MethodDescriptor;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::metadata::{KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue};
use uuid::Uuid;

use super::Console;
use crate::invoke::{Context, Conversation, Failure, Part};

/// Calls that may be under way at a time.
const MAX_CALLS: usize = 100;

/// What a call begins with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Begin {
    service: String,
    method: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
    /// Milliseconds; 0 means none.
    #[serde(default)]
    timeout_ms: u64,
}

#[derive(Debug)]
struct Call {
    method: MethodDescriptor,
    /// `None` once the requests have ended.
    requests: Option<mpsc::Sender<Bytes>>,
    cancelled: CancellationToken,
}

/// The calls under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<String, Call>>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a call off the list when its answer is no longer read, whether or not it has ended.
struct Listed {
    calls: Calls,
    id: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.id);
    }
}

pub(super) async fn begin(
    State(console): State<Console>,
    headers: HeaderMap,
    body: Result<Json<Begin>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let begin = match body {
        Ok(Json(begin)) => begin,
        Err(rejection) => return refuse(Code::InvalidArgument, &rejection.body_text(), Vec::new()),
    };
    let context = match context(&headers, &begin) {
        Ok(context) => context,
        Err(reason) => return refuse(Code::InvalidArgument, &reason, Vec::new()),
    };
    let begun = console.invoker.converse(&begin.service, &begin.method, context).await;
    let Conversation { method, requests, parts } = match begun {
        Ok(conversation) => conversation,
        Err(failure) => return failed(&failure),
    };
    let (id, cancelled) = (Uuid::new_v4().to_string(), CancellationToken::new());
    {
        let mut calls = console.calls.lock();
        if calls.len() >= MAX_CALLS {
            let text = format!("{MAX_CALLS} calls are under way; cancel one");
            return refuse(Code::ResourceExhausted, &text, Vec::new());
        }
        let call = Call { method, requests: Some(requests), cancelled: cancelled.clone() };
        calls.insert(id.clone(), call);
    }
    let listed = Listed { calls: console.calls.clone(), id: id.clone() };
    let answer = stream::unfold(Some((parts, listed, cancelled)), |state| async {
        let (mut parts, listed, cancelled) = state?;
        let part = tokio::select! {
            part = parts.recv() => part?,
            () = cancelled.cancelled() => {
                let text = "cancelled by its caller".to_owned();
                let line = status_line("CANCELLED", &text, Vec::new(), Value::Null);
                return Some((line, None));
            }
        };
        let is_last = matches!(part, Part::Ended(..));
        Some((line(part), (!is_last).then_some((parts, listed, cancelled))))
    });
    let first = stream::iter([json!({ "id": id })]);
    let lines = first.chain(answer).map(|line| Ok::<_, Infallible>(format!("{line}\n")));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(lines)).into_response()
}

fn context(headers: &HeaderMap, begin: &Begin) -> Result<Context, String> {
    // Trace context and what else goes on to backends comes from the page's own request.
    let mut metadata = MetadataMap::from_headers(headers.clone());
    metadata.remove("grpc-timeout");
    for (name, value) in &begin.metadata {
        let wrong = |what: &str| format!("metadata {name:?}: {what}");
        if name.ends_with("-bin") {
            let key = MetadataKey::from_bytes(name.as_bytes()).map_err(|_| wrong("not a name"))?;
            use base64::Engine as _;
            let octets = base64::engine::general_purpose::STANDARD.decode(value);
            let octets = octets.map_err(|_| wrong("the value of a -bin key must be base64"))?;
            metadata.insert_bin(key, MetadataValue::from_bytes(&octets));
        } else {
            let key: MetadataKey<_> = name.parse().map_err(|_| wrong("not a name"))?;
            metadata.insert(key, value.parse().map_err(|_| wrong("not printable ASCII"))?);
        }
    }
    if begin.timeout_ms > 0 {
        let mut request = tonic::Request::new(());
        request.set_timeout(std::time::Duration::from_millis(begin.timeout_ms));
        if let Some(timeout) = request.metadata().get("grpc-timeout") {
            metadata.insert("grpc-timeout", timeout.clone());
        }
    }
    Ok(Context::new(&metadata))
}

pub(super) async fn send(
    State(console): State<Console>,
    Path(id): Path<String>,
    request: String,
) -> Response {
    let found =
        console.calls.lock().get(&id).map(|call| (call.method.clone(), call.requests.clone()));
    let Some((method, requests)) = found else { return unknown(&id) };
    let Some(requests) = requests else {
        return refuse(Code::FailedPrecondition, "the requests have ended", Vec::new());
    };
    let request = match Conversation::encode(&method, &request) {
        Ok(request) => request,
        Err(failure) => return failed(&failure),
    };
    match requests.send(request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => refuse(Code::FailedPrecondition, "the call has ended", Vec::new()),
    }
}

pub(super) async fn end(State(console): State<Console>, Path(id): Path<String>) -> Response {
    match console.calls.lock().get_mut(&id) {
        Some(call) => {
            call.requests = None;
            StatusCode::NO_CONTENT.into_response()
        }
        None => unknown(&id),
    }
}

pub(super) async fn cancel(State(console): State<Console>, Path(id): Path<String>) -> Response {
    match console.calls.lock().get(&id) {
        Some(call) => {
            call.cancelled.cancel();
            StatusCode::NO_CONTENT.into_response()
        }
        None => unknown(&id),
    }
}

fn unknown(id: &str) -> Response {
    refuse(Code::NotFound, &format!("no call {id} is under way"), Vec::new())
}

fn failed(failure: &Failure) -> Response {
    refuse(failure.code(), failure.message(), failure.details())
}

/// Answers with an error, in the form that all routes have.
pub(super) fn refuse(code: Code, message: &str, details: Vec<Value>) -> Response {
    let status = match code {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal | Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = json!({ "code": code as i32, "message": message, "details": details });
    (status, Json(body)).into_response()
}

fn line(part: Part) -> Value {
    match part {
        Part::Headers(headers) => json!({ "headers": metadata(&headers) }),
        // It was printed here, so that it parses; numbers keep their digits as text does.
        Part::Message(text) => json!({ "message": text }),
        Part::Ended(Ok(trailers), took) => {
            let mut line = status_line("OK", "", Vec::new(), metadata(&trailers));
            line["ms"] = json!(took.as_secs_f64() * 1e3);
            line
        }
        Part::Ended(Err(failure), took) => {
            let trailers = match &failure {
                Failure::Backend { status, .. } => metadata(status.metadata()),
                _ => Value::Null,
            };
            let word = oxgrpc_schema::code_name(failure.code());
            let mut line = status_line(word, failure.message(), failure.details(), trailers);
            line["ms"] = json!(took.as_secs_f64() * 1e3);
            line
        }
    }
}

fn status_line(word: &str, message: &str, details: Vec<Value>, trailers: Value) -> Value {
    json!({ "status": word, "message": message, "details": details, "trailers": trailers })
}

fn metadata(map: &MetadataMap) -> Value {
    let mut values: Map<String, Value> = Map::new();
    for entry in map.iter() {
        let (name, value) = match entry {
            KeyAndValueRef::Ascii(key, value) => {
                (key.as_str(), value.to_str().unwrap_or_default().to_owned())
            }
            KeyAndValueRef::Binary(key, value) => {
                (key.as_str(), String::from_utf8_lossy(value.as_encoded_bytes()).into_owned())
            }
        };
        match values.get_mut(name) {
            Some(Value::String(known)) => {
                known.push_str(", ");
                known.push_str(&value);
            }
            _ => drop(values.insert(name.to_owned(), value.into())),
        }
    }
    values.into()
}
