//! A method's schema with all the types that its messages are made of, for a form.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use oxgrpc_schema::prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::Console;
use super::calls::refuse;

/// Describes a method: its request type by name, and every type that is reachable from it.
pub(super) async fn describe(
    State(console): State<Console>,
    Path((service, method)): Path<(String, String)>,
) -> Response {
    let found = async {
        let backend = console.invoker.find_backend(&service)?;
        console.invoker.method(&backend, &method).await
    };
    let method = match found.await {
        Ok(method) => method,
        Err(status) => return refuse(status.code(), status.message(), Vec::new()),
    };
    let mut types = Map::new();
    message(&method.input(), &mut types);
    message(&method.output(), &mut types);
    Json(json!({
        "fullName": method.full_name(),
        "input": method.input().full_name(),
        "output": method.output().full_name(),
        "clientStreaming": method.is_client_streaming(),
        "serverStreaming": method.is_server_streaming(),
        "types": types,
    }))
    .into_response()
}

fn message(descriptor: &MessageDescriptor, types: &mut Map<String, Value>) {
    if types.contains_key(descriptor.full_name()) {
        return;
    }
    // Known before its fields are: types may contain themselves.
    types.insert(descriptor.full_name().to_owned(), Value::Null);
    let fields: Vec<Value> = descriptor.fields().map(|own| field(&own, types)).collect();
    types.insert(descriptor.full_name().to_owned(), json!({ "fields": fields }));
}

fn enumeration(descriptor: &EnumDescriptor, types: &mut Map<String, Value>) {
    let values: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
    types.insert(descriptor.full_name().to_owned(), json!({ "values": values }));
}

fn field(descriptor: &FieldDescriptor, types: &mut Map<String, Value>) -> Value {
    let optional = descriptor.field_descriptor_proto().proto3_optional();
    let oneof = descriptor.containing_oneof().filter(|_| !optional);
    let mut described = json!({
        "name": descriptor.name(),
        "jsonName": descriptor.json_name(),
        "list": descriptor.is_list(),
        "optional": optional,
        "oneof": oneof.map(|oneof| oneof.name().to_owned()),
    });
    let value = match descriptor.kind() {
        Kind::Message(entry) if descriptor.is_map() => {
            described["key"] = kind(&entry.map_entry_key_field(), types);
            kind(&entry.map_entry_value_field(), types)
        }
        _ => kind(descriptor, types),
    };
    described["value"] = value;
    described
}

/// A value's type: `{"kind": "int64"}`, or of a message or an enum its name, too.
fn kind(descriptor: &FieldDescriptor, types: &mut Map<String, Value>) -> Value {
    match descriptor.kind() {
        Kind::Message(descriptor) => {
            message(&descriptor, types);
            json!({ "kind": "message", "type": descriptor.full_name() })
        }
        Kind::Enum(descriptor) => {
            enumeration(&descriptor, types);
            json!({ "kind": "enum", "type": descriptor.full_name() })
        }
        scalar => json!({ "kind": format!("{scalar:?}").to_ascii_lowercase() }),
    }
}
