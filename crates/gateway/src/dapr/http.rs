//! Dapr's HTTP API, `/v1.0/`: health, publish and state, with its status codes and error documents.

use std::collections::HashMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use oxgrpc_proto::dapr::proto::common::v1::state_options::{StateConcurrency, StateConsistency};
use oxgrpc_proto::dapr::proto::common::v1::{Etag, StateItem, StateOptions};
use oxgrpc_proto::dapr::proto::runtime::v1::{
    ExecuteStateTransactionRequest, TransactionalStateOperation,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::Dapr;
use super::unsupported::path_refusal;

/// A status, as Dapr's HTTP API tells it.
struct Refused(Status);

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (code, word) = match self.0.code() {
            Code::InvalidArgument => (StatusCode::BAD_REQUEST, "ERR_MALFORMED_REQUEST"),
            Code::NotFound => (StatusCode::NOT_FOUND, "ERR_PUBSUB_NOT_FOUND"),
            Code::Aborted => (StatusCode::CONFLICT, "ERR_STATE_ETAG_MISMATCH"),
            Code::ResourceExhausted => (StatusCode::PAYLOAD_TOO_LARGE, "ERR_EXHAUSTED"),
            Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "ERR_NOT_READY"),
            Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "ERR_NOT_IMPLEMENTED"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "ERR_INTERNAL"),
        };
        let document = serde_json::json!({ "errorCode": word, "message": self.0.message() });
        (code, axum::Json(document)).into_response()
    }
}

type Answer<T> = Result<T, Refused>;

pub(super) fn routes(dapr: Dapr) -> Router {
    // Keys may have slashes, and may be called `bulk` or `transaction`: those have routes for other verbs.
    let named = |key: &'static str| {
        get(move |dapr, Path(store): Path<String>, query| {
            read(dapr, Path((store, key.into())), query)
        })
        .delete(move |dapr, Path(store): Path<String>, query, headers| {
            delete(dapr, Path((store, key.into())), query, headers)
        })
    };
    Router::new()
        .route("/v1.0/healthz", get(health))
        .route("/v1.0/healthz/outbound", get(health))
        .route("/v1.0/publish/{pubsub}/{*topic}", post(publish).put(publish))
        .route("/v1.0/state/{store}", post(save).put(save))
        .route("/v1.0/state/{store}/bulk", named("bulk").post(read_all))
        .route("/v1.0/state/{store}/transaction", named("transaction").post(transact).put(transact))
        .route("/v1.0/state/{store}/{*key}", get(read).delete(delete))
        .route("/v1.0/{*path}", any(unsupported))
        .route("/v1.0-alpha1/{*path}", any(unsupported))
        .route("/v1.0-beta1/{*path}", any(unsupported))
        .with_state(dapr)
}

async fn unsupported(Path(path): Path<String>) -> Refused {
    Refused(path_refusal(&path))
}

async fn health(State(dapr): State<Dapr>) -> Answer<StatusCode> {
    dapr.health().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the metadata that a query has, `metadata.KEY=VALUE`.
fn metadata(query: HashMap<String, String>) -> HashMap<String, String> {
    query
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("metadata.")?.to_owned(), value)))
        .collect()
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn publish(
    State(dapr): State<Dapr>,
    Path((pubsub, topic)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<StatusCode> {
    dapr.check_pubsub(&pubsub)?;
    let content_type = text(&headers, &CONTENT_TYPE).to_owned();
    let call = MetadataMap::from_headers(headers);
    dapr.publish(&topic, body, &content_type, metadata(query), &call).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    concurrency: String,
    #[serde(default)]
    consistency: String,
}

#[derive(Deserialize)]
struct Item {
    key: String,
    value: Option<Box<RawValue>>,
    etag: Option<String>,
    #[serde(default)]
    metadata: HashMap<String, String>,
    options: Option<Options>,
}

impl TryFrom<Item> for StateItem {
    type Error = Status;

    fn try_from(item: Item) -> Result<Self, Status> {
        Ok(Self {
            key: item.key,
            value: item.value.map(|value| value.get().to_owned().into()).unwrap_or_default(),
            etag: item.etag.map(|value| Etag { value }),
            metadata: item.metadata,
            options: item
                .options
                .map(|options| options.concurrency_and_consistency())
                .transpose()?,
        })
    }
}

impl Options {
    fn concurrency_and_consistency(&self) -> Result<StateOptions, Status> {
        let unknown = |name: &str, value: &str| {
            Status::invalid_argument(format!("the {name} {value:?} is not known"))
        };
        let concurrency = match self.concurrency.as_str() {
            "" => StateConcurrency::ConcurrencyUnspecified,
            "first-write" => StateConcurrency::ConcurrencyFirstWrite,
            "last-write" => StateConcurrency::ConcurrencyLastWrite,
            other => return Err(unknown("concurrency", other)),
        };
        let consistency = match self.consistency.as_str() {
            "" => StateConsistency::ConsistencyUnspecified,
            "eventual" => StateConsistency::ConsistencyEventual,
            "strong" => StateConsistency::ConsistencyStrong,
            other => return Err(unknown("consistency", other)),
        };
        Ok(StateOptions { concurrency: concurrency.into(), consistency: consistency.into() })
    }
}

fn parse<'b, T: Deserialize<'b>>(body: &'b Bytes) -> Result<T, Status> {
    serde_json::from_slice(body).map_err(|error| {
        Status::invalid_argument(format!("the request's body is not what it should be: {error}"))
    })
}

async fn save(
    State(dapr): State<Dapr>,
    Path(store): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<StatusCode> {
    let items = parse::<Vec<Item>>(&body)?.into_iter().map(StateItem::try_from);
    let call = MetadataMap::from_headers(headers);
    dapr.write_items(&store, items.collect::<Result<_, _>>()?, false, &call).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read(
    State(dapr): State<Dapr>,
    Path((store, key)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer<Response> {
    let found = dapr.read(&store, &key, &metadata(query)).await?;
    if found.etag.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let is_json = serde_json::from_slice::<&RawValue>(&found.data).is_ok();
    let content_type = if is_json { "application/json" } else { "application/octet-stream" };
    let mut response = found.data.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(etag) = HeaderValue::from_str(&found.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

async fn delete(
    State(dapr): State<Dapr>,
    Path((store, key)): Path<(String, String)>,
    Query(mut query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let etag = Some(text(&headers, &IF_MATCH)).filter(|etag| !etag.is_empty());
    let etag = etag.map(|etag| Etag { value: etag.trim_matches('"').into() });
    let mut option = |name: &str| query.remove(name).unwrap_or_default();
    let options =
        Options { concurrency: option("concurrency"), consistency: option("consistency") };
    let options = Some(options.concurrency_and_consistency()?);
    let item = StateItem { key, etag, options, metadata: metadata(query), ..Default::default() };
    let call = MetadataMap::from_headers(headers);
    dapr.write_items(&store, vec![item], true, &call).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct BulkRead {
    keys: Vec<String>,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

async fn read_all(
    State(dapr): State<Dapr>,
    Path(store): Path<String>,
    body: Bytes,
) -> Answer<Response> {
    let BulkRead { keys, metadata } = parse(&body)?;
    let items = dapr.read_all(&store, keys, &metadata).await?;
    let items = items.into_iter().map(|item| {
        let mut document = serde_json::json!({ "key": item.key });
        if !item.error.is_empty() {
            document["error"] = item.error.into();
        } else if !item.etag.is_empty() {
            document["etag"] = item.etag.into();
            document["data"] = serde_json::from_slice(&item.data)
                .unwrap_or_else(|_| String::from_utf8_lossy(&item.data).into());
        }
        document
    });
    Ok(axum::Json(items.collect::<Vec<_>>()).into_response())
}

#[derive(Deserialize)]
struct Operation {
    operation: String,
    request: Item,
}

#[derive(Deserialize)]
struct Transaction {
    operations: Vec<Operation>,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

async fn transact(
    State(dapr): State<Dapr>,
    Path(store_name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<StatusCode> {
    let Transaction { operations, metadata } = parse(&body)?;
    let operations = operations.into_iter().map(|operation| {
        Ok(TransactionalStateOperation {
            operation_type: operation.operation,
            request: Some(operation.request.try_into()?),
        })
    });
    let operations = operations.collect::<Result<_, Status>>()?;
    let request = ExecuteStateTransactionRequest { store_name, operations, metadata };
    dapr.transact(request, &MetadataMap::from_headers(headers)).await?;
    Ok(StatusCode::NO_CONTENT)
}
