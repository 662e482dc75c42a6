//! Descriptors as `.proto` source, with their comments where the descriptors have them.
//!
//! https://protobuf.dev/reference/protobuf/proto3-spec/. Names of types are full, so that each can be described in turn.

use oxgrpc_schema::prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, MethodDescriptor, ServiceDescriptor, Syntax,
};

/// `service X { … }`
pub(crate) fn service(service: &ServiceDescriptor) -> String {
    let mut lines = comments(&service.parent_file(), service.path());
    lines.push(format!("// {}", service.full_name()));
    lines.push(format!("service {} {{", service.name()));
    for method in service.methods() {
        lines.extend(indent(method_lines(&method)));
    }
    lines.push("}".into());
    lines.join("\n")
}

/// `rpc X(Request) returns (Response);`
pub(crate) fn method(method: &MethodDescriptor) -> String {
    method_lines(method).join("\n")
}

fn method_lines(method: &MethodDescriptor) -> Vec<String> {
    let mut lines = comments(&method.parent_file(), method.path());
    let stream = |streaming: bool| if streaming { "stream " } else { "" };
    lines.push(format!(
        "rpc {}({}{}) returns ({}{});",
        method.name(),
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name(),
    ));
    lines
}

/// `message X { … }`
pub(crate) fn message(message: &MessageDescriptor) -> String {
    let mut lines = vec![format!("// {}", message.full_name())];
    lines.extend(message_lines(message));
    lines.join("\n")
}

fn message_lines(message: &MessageDescriptor) -> Vec<String> {
    let mut lines = comments(&message.parent_file(), message.path());
    lines.push(format!("message {} {{", message.name()));
    for nested in message.child_enums() {
        lines.extend(indent(enum_lines(&nested)));
    }
    for nested in message.child_messages().filter(|nested| !nested.is_map_entry()) {
        lines.extend(indent(message_lines(&nested)));
    }
    let mut printed = Vec::new();
    for field in message.fields() {
        match field.containing_oneof().filter(|_| !is_optional(&field)) {
            None => lines.extend(indent(field_lines(&field))),
            Some(oneof) if printed.contains(&oneof.full_name().to_owned()) => {}
            Some(oneof) => {
                printed.push(oneof.full_name().to_owned());
                lines.push(format!("  oneof {} {{", oneof.name()));
                for field in oneof.fields() {
                    lines.extend(indent(indent(field_lines(&field))));
                }
                lines.push("  }".into());
            }
        }
    }
    let reserved: Vec<String> = message
        .reserved_ranges()
        .map(|range| match range.end - range.start {
            1 => range.start.to_string(),
            _ => format!("{} to {}", range.start, range.end - 1),
        })
        .chain(message.reserved_names().map(|name| format!("\"{name}\"")))
        .collect();
    for item in reserved {
        lines.push(format!("  reserved {item};"));
    }
    lines.push("}".into());
    lines
}

/// `Type name = 1;`
pub(crate) fn field(field: &FieldDescriptor) -> String {
    field_lines(field).join("\n")
}

fn field_lines(field: &FieldDescriptor) -> Vec<String> {
    let mut lines = comments(&field.parent_message().parent_file(), field.path());
    let label = match field.cardinality() {
        _ if field.is_map() => "",
        Cardinality::Repeated => "repeated ",
        Cardinality::Required => "required ",
        Cardinality::Optional if is_optional(field) => "optional ",
        Cardinality::Optional => "",
    };
    let deprecated =
        field.field_descriptor_proto().options.as_ref().is_some_and(|o| o.deprecated());
    lines.push(format!(
        "{label}{} {} = {}{};",
        field_type(field),
        field.name(),
        field.number(),
        if deprecated { " [deprecated = true]" } else { "" }
    ));
    lines
}

/// Returns true if the field says `optional`.
pub(crate) fn is_optional(field: &FieldDescriptor) -> bool {
    let proto3 = field.field_descriptor_proto().proto3_optional();
    let proto2 = field.parent_file().syntax() == Syntax::Proto2
        && field.cardinality() == Cardinality::Optional
        && field.containing_oneof().is_none();
    proto3 || proto2
}

/// The field's type as it is written, without `repeated`.
pub(crate) fn field_type(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => format!(
            "map<{}, {}>",
            kind(&entry.map_entry_key_field().kind()),
            kind(&entry.map_entry_value_field().kind())
        ),
        other => kind(&other),
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(found) => found.full_name().to_owned(),
        // The scalar types print as they are written.
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

/// `enum X { … }`
pub(crate) fn enumeration(found: &EnumDescriptor) -> String {
    let mut lines = vec![format!("// {}", found.full_name())];
    lines.extend(enum_lines(found));
    lines.join("\n")
}

fn enum_lines(found: &EnumDescriptor) -> Vec<String> {
    let mut lines = comments(&found.parent_file(), found.path());
    lines.push(format!("enum {} {{", found.name()));
    for value in found.values() {
        lines.extend(indent(comments(&found.parent_file(), value.path())));
        lines.push(format!("  {} = {};", value.name(), value.number()));
    }
    lines.push("}".into());
    lines
}

fn indent(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| format!("  {line}")).collect()
}

/// The comment before the element at `path` (descriptor.proto, `SourceCodeInfo`).
fn comments(file: &FileDescriptor, path: &[i32]) -> Vec<String> {
    let pool: &DescriptorPool = file.parent_pool();
    let proto = pool.file_descriptor_protos().find(|proto| proto.name() == file.name());
    let location = proto
        .and_then(|proto| proto.source_code_info.as_ref())
        .and_then(|info| info.location.iter().find(|location| location.path == path));
    let Some(comment) = location.and_then(|location| location.leading_comments.as_ref()) else {
        return Vec::new();
    };
    comment.lines().map(|line| format!("//{line}").trim_end().to_owned()).collect()
}
