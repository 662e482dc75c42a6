//! The routes that are one gRPC method each: path, query and body together are the request.

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawPathParams, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use oxgrpc_schema::json;
use oxgrpc_schema::prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value};
use tonic::Status;

use super::Rest;

/// A route that is a gRPC method.
pub(super) struct Route {
    pub(super) verb: MethodFilter,
    /// As axum writes it.
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    pub(super) summary: &'static str,
}

const fn route(
    verb: MethodFilter,
    path: &'static str,
    method: &'static str,
    summary: &'static str,
) -> Route {
    Route { verb, path, method, summary }
}

const GET: MethodFilter = MethodFilter::GET;
const POST: MethodFilter = MethodFilter::POST;
const DELETE: MethodFilter = MethodFilter::DELETE;

const INVOKE_JSON: &str = "virtufin.Gateway.InvokeJson";

/// The routes; OpenAPI's document is made of them too.
pub(super) const ROUTES: [Route; 14] = [
    route(
        GET,
        "/v1/gateway/list-services",
        "virtufin.Gateway.ListServices",
        "Names of the registered services",
    ),
    route(GET, "/v1/gateway/list-methods", "virtufin.Gateway.ListMethods", "Methods of a service"),
    route(
        POST,
        "/v1/gateway/invoke",
        "virtufin.Gateway.Invoke",
        "Call a method with a serialized request (base64)",
    ),
    route(POST, "/v1/gateway/invoke-json", INVOKE_JSON, "Call a method with a request in JSON"),
    route(GET, "/v1/config/list-services", "virtufin.Config.ListServices", "The registry"),
    route(
        GET,
        "/v1/config/get-service",
        "virtufin.Config.GetService",
        "A service as it is registered",
    ),
    route(POST, "/v1/state/save-state", "virtufin.State.SaveState", "Write a value"),
    route(
        POST,
        "/v1/state/register-keys",
        "virtufin.State.RegisterKeys",
        "Remember keys of a service",
    ),
    route(GET, "/v1/state/{service}", "virtufin.State.GetAllState", "All values of a service"),
    route(GET, "/v1/state/{service}/{*key}", "virtufin.State.GetState", "Read a value"),
    route(DELETE, "/v1/state/{service}/{*key}", "virtufin.State.DeleteState", "Delete a value"),
    route(
        GET,
        "/v1/state-keys/{service}",
        "virtufin.State.ListKeys",
        "Keys of a service by prefix, in pages",
    ),
    route(
        POST,
        "/v1/pubsub/publish",
        "virtufin.Pubsub.PublishEvent",
        "Publish an event (data as base64)",
    ),
    route(POST, "/v1/pubsub/unsubscribe", "virtufin.Pubsub.Unsubscribe", "End a subscription"),
];

pub(super) fn add(mut router: Router<Rest>) -> Router<Rest> {
    for route in &ROUTES {
        let handler = move |State(rest): State<Rest>,
                            path: RawPathParams,
                            RawQuery(query): RawQuery,
                            headers: HeaderMap,
                            body: Result<Bytes, BytesRejection>| {
            serve(rest, route, path, query, headers, body)
        };
        router = router.route(route.path, on(route.verb, handler));
    }
    router
}

async fn serve(
    rest: Rest,
    route: &'static Route,
    path: RawPathParams,
    query: Option<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let query = parse_query(query.as_deref().unwrap_or_default());
    match answer(&rest, route, &path, &query, &headers, body).await {
        Ok(response) => response,
        Err(status) => rest.error(&headers, &status),
    }
}

async fn answer(
    rest: &Rest,
    route: &Route,
    path: &RawPathParams,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Status> {
    let input = rest.transcoder.method(route.method)?.input();
    let body = text_of(body)?;
    // A body alone is the request as it is, so that the places in messages about it are those of the caller's text.
    let request = if route.method == INVOKE_JSON {
        invocation(&body)
    } else if route.verb == POST {
        body
    } else {
        assemble(&input, path.iter(), query)?
    };
    let answer = rest.transcoder.unary(route.method, headers, &request).await?;
    let options =
        json::PrintOptions { proto_names: wants_proto_names(query), ..Default::default() };
    let text = json::print(&answer.message, &options)
        .map_err(|error| Status::internal(error.to_string()))?;
    let mut response = json_text(text);
    copy_headers(&answer.headers, response.headers_mut());
    Ok(response)
}

/// Copies what a call answered with, beside what belongs to its encoding.
pub(super) fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in &crate::invoke::forwardable(from) {
        to.append(name.clone(), value.clone());
    }
}

pub(super) fn json_text(text: String) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], text).into_response()
}

/// `?names=proto` prints names as in the `.proto` files.
pub(super) fn wants_proto_names(query: &[(String, String)]) -> bool {
    query.iter().any(|(name, value)| name == "names" && value == "proto")
}

/// Returns a body as text, or says that it is too large or no text.
pub(super) fn text_of(body: Result<Bytes, BytesRejection>) -> Result<String, Status> {
    let body = body.map_err(|rejection| match rejection.status().as_u16() {
        413 => Status::resource_exhausted(rejection.body_text()),
        _ => Status::invalid_argument(rejection.body_text()),
    })?;
    String::from_utf8(body.into())
        .map_err(|error| Status::invalid_argument(format!("the body is not UTF-8: {error}")))
}

pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// `requestData` may be JSON in a string, as the message has it, or JSON as such.
pub(super) fn invocation(body: &str) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str::<Value>(body) else {
        // The parser of the message says what is wrong with it.
        return body.to_owned();
    };
    for name in ["requestData", "request_data"] {
        if let Some(value) = object.get_mut(name)
            && !value.is_string()
            && !value.is_null()
        {
            *value = Value::String(value.to_string());
        }
    }
    Value::Object(object).to_string()
}

/// Makes one JSON object of path and query.
pub(super) fn assemble<'a>(
    input: &MessageDescriptor,
    path: impl Iterator<Item = (&'a str, &'a str)>,
    query: &[(String, String)],
) -> Result<String, Status> {
    let mut object: Map<String, Value> =
        path.map(|(name, value)| (name.to_owned(), Value::String(value.to_owned()))).collect();
    for (name, value) in query {
        let field = input.get_field_by_json_name(name).or_else(|| input.get_field_by_name(name));
        let Some(field) = field else {
            if name == "names" {
                continue;
            }
            return Err(Status::invalid_argument(format!(
                "{} has no field {name:?}",
                input.full_name()
            )));
        };
        let value = match field.kind() {
            Kind::Bool => match value.as_str() {
                "true" | "1" | "" => Value::Bool(true),
                "false" | "0" => Value::Bool(false),
                _ => {
                    return Err(Status::invalid_argument(format!(
                        "{name} is {value:?}, expected true or false"
                    )));
                }
            },
            _ => Value::String(value.clone()),
        };
        if field.is_list() {
            match object.entry(field.name()).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(values) => values.push(value),
                _ => return Err(Status::invalid_argument(format!("{name} is given twice"))),
            }
        } else {
            object.insert(field.name().to_owned(), value);
        }
    }
    Ok(Value::Object(object).to_string())
}
