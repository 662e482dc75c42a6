//! `/v1/grpc`: what a browser's workbench asks for about backends, in shapes of its own.

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use oxgrpc_schema::json;
use oxgrpc_schema::prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::Rest;
use super::routes::{copy_headers, parse_query, text_of};
use crate::invoke::Context;

pub(super) const METHODS: &str = "/v1/grpc/{service}/methods";
pub(super) const SCHEMA: &str = "/v1/grpc/{service}/schema/{*method}";
pub(super) const PROTOS: &str = "/v1/grpc/{service}/protos";
pub(super) const CALL: &str = "/v1/grpc/call";

pub(super) fn add(router: Router<Rest>) -> Router<Rest> {
    router
        .route(METHODS, get(methods))
        .route(SCHEMA, get(schema))
        .route(PROTOS, get(protos))
        .route(CALL, post(call))
}

async fn methods(
    State(rest): State<Rest>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Response {
    let request = json!({ "service": service }).to_string();
    let answer = rest.transcoder.unary("virtufin.Gateway.ListMethods", &headers, &request).await;
    match answer.and_then(|answer| value(&answer.message)) {
        Err(status) => rest.error(&headers, &status),
        Ok(value) => {
            let methods: Vec<Value> =
                value["methods"].as_array().into_iter().flatten().map(describe).collect();
            axum::Json(methods).into_response()
        }
    }
}

fn describe(method: &Value) -> Value {
    let streams = |name: &str| method[name].as_bool().unwrap_or_default();
    let streaming = match (streams("isClientStreaming"), streams("isServerStreaming")) {
        (false, false) => "unary",
        (true, false) => "client",
        (false, true) => "server",
        (true, true) => "bidi",
    };
    json!({
        "name": method["name"],
        "fullName": method["fullName"],
        "inputType": method["inputType"],
        "outputType": method["outputType"],
        "streamingType": streaming,
    })
}

async fn schema(
    State(rest): State<Rest>,
    Path((service, method)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = parse_query(query.as_deref().unwrap_or_default());
    let kind = query.iter().find(|(name, _)| name == "type").map(|(_, value)| value.as_str());
    let request = json!({ "service": service, "method": method, "type": kind.unwrap_or_default() });
    let answer = rest
        .transcoder
        .unary("virtufin.Gateway.GetMethodSchema", &headers, &request.to_string())
        .await;
    match answer.and_then(|answer| value(&answer.message)) {
        Err(status) => rest.error(&headers, &status),
        Ok(value) => axum::Json(value["schema"].clone()).into_response(),
    }
}

async fn protos(
    State(rest): State<Rest>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Response {
    let schema = async {
        let backend = rest.invoker.find_backend(&service)?;
        rest.invoker.schema(&backend).await
    };
    match schema.await {
        Err(status) => rest.error(&headers, &status),
        Ok(schema) => {
            let octets = HeaderValue::from_static("application/octet-stream");
            ([(CONTENT_TYPE, octets)], schema.schema().to_descriptor_set()).into_response()
        }
    }
}

/// Answers with `error`, `statusCode` and `data`, and the HTTP status 200 whatever the backend says.
async fn call(
    State(rest): State<Rest>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let parsed = text_of(body).and_then(|text| {
        serde_json::from_str::<Value>(&text)
            .map_err(|error| Status::invalid_argument(format!("the body is not JSON: {error}")))
    });
    match parsed {
        Err(status) => rest.error(&headers, &status),
        Ok(body) => {
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            let request = match &body["request"] {
                Value::Null => String::new(),
                Value::String(json) => json.clone(),
                json => json.to_string(),
            };
            let mut context = Context::new(&MetadataMap::from_headers(headers.clone()));
            let outcome = rest
                .invoker
                .invoke_json(&text("service"), &text("method"), &request, &mut context)
                .await;
            let answer = match outcome {
                Ok(data) => json!({
                    "error": null,
                    "statusCode": Code::Ok as i32,
                    "data": serde_json::from_str::<Value>(&data).unwrap_or_default(),
                }),
                Err(failure) => json!({
                    "error": failure.message(),
                    "status": failure.word(),
                    "statusCode": failure.code() as i32,
                    "details": failure.details(),
                    "data": null,
                }),
            };
            let mut response = axum::Json(answer).into_response();
            copy_headers(&context.response_headers, response.headers_mut());
            response
        }
    }
}

fn value(message: &DynamicMessage) -> Result<Value, Status> {
    json::to_value(message, &json::PrintOptions::default())
        .map_err(|error| Status::internal(error.to_string()))
}
