//! `/openapi.json`, made of the routes and the descriptors of their methods, and `/swagger`, a page that shows it and tries it out.
//! The page is self-contained: it loads nothing from elsewhere.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodFilter;
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use oxgrpc_schema::prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::Rest;
use super::routes::ROUTES;
use super::{grpc, invoke, stream};

const PAGE: &str = include_str!("swagger.html");

/// Routes that are not one gRPC method each: verb, path, summary, what the body is like.
const OTHERS: [(&str, &str, &str, Option<&str>); 9] = [
    (
        "post",
        invoke::PATH,
        "Call a server-streaming method: lines of JSON, or server-sent events",
        Some("virtufin.InvokeJsonRequest"),
    ),
    ("get", stream::TOPIC_PATH, "Events of a topic, as server-sent events", None),
    ("get", stream::EVENTS_PATH, "All events, filtered, as server-sent events", None),
    ("get", grpc::METHODS, "Methods of a service", None),
    (
        "get",
        "/v1/grpc/{service}/schema/{method}",
        "The request (type=input) or response (type=output) of a method",
        None,
    ),
    ("get", grpc::PROTOS, "The FileDescriptorSet of a service", None),
    ("post", grpc::CALL, "Call a method: service, method, request", None),
    ("get", "/health", "Whether the gateway works", None),
    ("get", "/metrics", "Prometheus metrics", None),
];

pub(super) async fn page() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    (
        [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        ],
        PAGE,
    )
        .into_response()
}

pub(super) async fn document(State(rest): State<Rest>) -> Response {
    axum::Json(rest.document()).into_response()
}

impl Rest {
    fn document(&self) -> Value {
        let mut paths = Map::new();
        let mut schemas = Map::new();
        for route in &ROUTES {
            let Ok(method) = self.transcoder.method(route.method) else { continue };
            let path = route.path.replace("{*", "{");
            let verb = verb(route.verb);
            let in_body = verb == "post";
            let input = method.input();
            let mut operation = operation(route.summary, method.parent_service().name());
            let parameters: Vec<Value> = input
                .fields()
                .filter_map(|field| {
                    let in_path = path.contains(&format!("{{{}}}", field.name()));
                    (in_path || !in_body).then(|| parameter(&field, in_path, &mut schemas))
                })
                .collect();
            operation["parameters"] = Value::Array(parameters);
            if in_body {
                operation["requestBody"] = body(reference(&input, &mut schemas));
            }
            operation["responses"] = responses(reference(&method.output(), &mut schemas));
            insert(&mut paths, &path, verb, operation);
        }
        for (verb, path, summary, request) in OTHERS {
            let mut operation = operation(summary, "HTTP");
            let path = path.replace("{*", "{");
            let names = path.split('{').skip(1).filter_map(|part| part.split_once('}'));
            let parameters: Vec<Value> = names
                .map(|(name, _)| {
                    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
                })
                .collect();
            operation["parameters"] = Value::Array(parameters);
            if verb == "post" {
                let schema = request.and_then(|name| self.transcoder.message(name)).map_or_else(
                    || json!({ "type": "object" }),
                    |message| reference(&message, &mut schemas),
                );
                operation["requestBody"] = body(schema);
            }
            operation["responses"] = responses(json!({}));
            insert(&mut paths, &path, verb, operation);
        }
        json!({
            "openapi": "3.1.0",
            "info": { "title": "oxgrpc gateway", "version": env!("CARGO_PKG_VERSION") },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "x-api-key" } },
            },
            "security": [{}, { "key": [] }],
        })
    }
}

fn verb(filter: MethodFilter) -> &'static str {
    match filter {
        MethodFilter::GET => "get",
        MethodFilter::DELETE => "delete",
        _ => "post",
    }
}

fn operation(summary: &str, tag: &str) -> Value {
    json!({ "summary": summary, "tags": [tag] })
}

fn insert(paths: &mut Map<String, Value>, path: &str, verb: &str, operation: Value) {
    paths.entry(path.to_owned()).or_insert_with(|| json!({}))[verb] = operation;
}

fn parameter(field: &FieldDescriptor, in_path: bool, schemas: &mut Map<String, Value>) -> Value {
    json!({
        "name": if in_path { field.name() } else { field.json_name() },
        "in": if in_path { "path" } else { "query" },
        "required": in_path,
        "schema": property(field, schemas),
    })
}

fn body(schema: Value) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": schema } } })
}

fn responses(schema: Value) -> Value {
    json!({
        "200": { "description": "OK", "content": { "application/json": { "schema": schema } } },
        "default": {
            "description": "An error",
            "content": { "application/json": { "schema": {
                "type": "object",
                "properties": {
                    "code": { "type": "integer" },
                    "status": { "type": "string" },
                    "message": { "type": "string" },
                    "details": { "type": "array", "items": { "type": "object" } },
                    "requestId": { "type": "string" },
                },
            } } },
        },
    })
}

/// Returns a reference to a message's schema, which is added to `schemas` if it is not there yet.
fn reference(message: &MessageDescriptor, schemas: &mut Map<String, Value>) -> Value {
    let name = message.full_name();
    if !schemas.contains_key(name) {
        // In its place before its fields are looked at: messages may contain themselves.
        schemas.insert(name.to_owned(), Value::Null);
        let properties: Map<String, Value> = message
            .fields()
            .map(|field| (field.json_name().to_owned(), property(&field, schemas)))
            .collect();
        schemas.insert(name.to_owned(), json!({ "type": "object", "properties": properties }));
    }
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn property(field: &FieldDescriptor, schemas: &mut Map<String, Value>) -> Value {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let values = property(&entry.map_entry_value_field(), schemas);
        return json!({ "type": "object", "additionalProperties": values });
    }
    let one = match field.kind() {
        Kind::Message(message) => reference(&message, schemas),
        Kind::Enum(kind) => {
            let names: Vec<String> = kind.values().map(|value| value.name().to_owned()).collect();
            json!({ "type": "string", "enum": names })
        }
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Double | Kind::Float => json!({ "type": "number" }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => {
            json!({ "type": "integer" })
        }
        // 64-bit integers are strings in protobuf JSON.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            json!({ "type": "string", "pattern": "^-?[0-9]+$" })
        }
    };
    if field.is_list() { json!({ "type": "array", "items": one }) } else { one }
}
