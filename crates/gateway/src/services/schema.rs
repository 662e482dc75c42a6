//! Descriptors as `MethodInfo` and `MethodSchema`.

use oxgrpc_proto::virtufin::{FieldSchema, MethodInfo, MethodSchema, OneofCaseSchema};
use oxgrpc_schema::prost_reflect::{FieldDescriptor, Kind, MethodDescriptor, ServiceDescriptor};

/// Describes the methods of services.
pub(super) fn methods(services: &[ServiceDescriptor]) -> Vec<MethodInfo> {
    services
        .iter()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| MethodInfo {
            name: method.name().to_owned(),
            full_name: method.full_name().to_owned(),
            input_type: method.input().full_name().to_owned(),
            output_type: method.output().full_name().to_owned(),
            is_client_streaming: method.is_client_streaming(),
            is_server_streaming: method.is_server_streaming(),
        })
        .collect()
}

/// Describes the request or the response of a method. `kind` is `input` (or `request`, or empty) or `output` (`response`).
pub(super) fn message(method: &MethodDescriptor, kind: &str) -> Option<MethodSchema> {
    let (kind, message) = match kind.to_ascii_lowercase().as_str() {
        "" | "input" | "request" => ("input", method.input()),
        "output" | "response" => ("output", method.output()),
        _ => return None,
    };
    Some(MethodSchema {
        input_type_name: method.input().full_name().to_owned(),
        output_type_name: method.output().full_name().to_owned(),
        schema_type: kind.to_owned(),
        fields: message.fields().map(|field| describe(&field)).collect(),
    })
}

fn describe(field: &FieldDescriptor) -> FieldSchema {
    let (kind, type_name) = kind(field);
    // A proto3 `optional` field is alone in a oneof of the compiler's making, which is not the user's business.
    let optional = field.field_descriptor_proto().proto3_optional();
    let oneof = field.containing_oneof().filter(|_| !optional);
    FieldSchema {
        name: field.name().to_owned(),
        r#type: kind,
        type_name,
        is_repeated: field.is_list() || field.is_map(),
        is_optional: optional,
        oneof_group: oneof.as_ref().map(|oneof| oneof.name().to_owned()).unwrap_or_default(),
        oneof_cases: oneof
            .iter()
            .flat_map(|oneof| oneof.fields().collect::<Vec<_>>())
            .map(|case| {
                let (r#type, type_name) = self::kind(&case);
                OneofCaseSchema {
                    name: case.name().to_owned(),
                    r#type,
                    type_name,
                    field_number: i32::try_from(case.number()).unwrap_or_default(),
                }
            })
            .collect(),
    }
}

/// Returns a field's type, such as `int64` or `message`, and the full name of a message or enum.
fn kind(field: &FieldDescriptor) -> (String, String) {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let part = |field: FieldDescriptor| match kind(&field) {
            (kind, name) if name.is_empty() => kind,
            (_, name) => name,
        };
        let key = part(entry.map_entry_key_field());
        let value = part(entry.map_entry_value_field());
        return ("map".to_owned(), format!("map<{key}, {value}>"));
    }
    match field.kind() {
        Kind::Message(message) => ("message".to_owned(), message.full_name().to_owned()),
        Kind::Enum(kind) => ("enum".to_owned(), kind.full_name().to_owned()),
        scalar => (format!("{scalar:?}").to_lowercase(), String::new()),
    }
}
