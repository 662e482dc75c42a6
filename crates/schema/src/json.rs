//! Messages as protobuf JSON (https://protobuf.dev/programming-guides/json/), both ways.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{
    DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage as _, SerializeOptions,
    Value as Reflected,
};
use serde_json::Value;
use serde_json::error::Category;

/// JSON that is not a message of the type that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The message type's full name.
    pub type_name: String,
    /// Where in the message, such as `items[2].price`; empty at the top level or where the text is not JSON at all.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
    /// The line, counted from 1; 0 if it is not known.
    pub line: usize,
    /// The column, counted from 1; 0 if it is not known.
    pub column: usize,
}

impl std::error::Error for JsonError {}

impl std::fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.type_name)?;
        if !self.path.is_empty() {
            write!(formatter, " field {:?}", self.path)?;
        }
        write!(formatter, ": {}", self.reason)?;
        if self.line > 0 {
            write!(formatter, " (line {}, column {})", self.line, self.column)?;
        }
        Ok(())
    }
}

/// Parses a message; blank text is the empty message. Field names are accepted in both spellings, unknown ones are refused.
pub fn parse(descriptor: MessageDescriptor, text: &str) -> Result<DynamicMessage, JsonError> {
    if text.trim().is_empty() {
        return Ok(DynamicMessage::new(descriptor));
    }
    let type_name = descriptor.full_name().to_owned();
    let mut json = serde_json::Deserializer::from_str(text);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let error = match DynamicMessage::deserialize(descriptor, tracked) {
        Ok(message) => match json.end() {
            Ok(()) => return Ok(message),
            Err(error) => error,
        },
        Err(error) => error,
    };
    Err(located(type_name, track.path().to_string(), &error))
}

fn located(type_name: String, path: String, error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    // serde_json appends the place to its messages; here it is a part of its own.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let reason = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    let mut path = if path == "." { String::new() } else { path };
    if error.classify() != Category::Data {
        return JsonError {
            type_name,
            path: String::new(),
            reason: format!("not valid JSON: {reason}"),
            line: error.line(),
            column: error.column(),
        };
    }
    // The field is unknown to the message that the path names, so it is not part of the path yet.
    let unknown = reason
        .strip_prefix("unrecognized field name '")
        .and_then(|rest| rest.strip_suffix('\''))
        .map(str::to_owned);
    if let Some(field) = unknown {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&field);
        return JsonError {
            type_name,
            path,
            reason: "no such field".to_owned(),
            line: error.line(),
            column: error.column(),
        };
    }
    JsonError { type_name, path, reason, line: error.line(), column: error.column() }
}

/// How messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrintOptions {
    /// Prints fields that have their default values.
    pub defaults: bool,
    /// Prints names as in the `.proto` file instead of lowerCamelCase.
    pub proto_names: bool,
    /// Prints enum values as numbers.
    pub enum_numbers: bool,
    /// Indents by two spaces.
    pub pretty: bool,
}

impl Default for PrintOptions {
    fn default() -> Self {
        Self { defaults: true, proto_names: false, enum_numbers: false, pretty: false }
    }
}

/// Prints a message as JSON. 64-bit integers are strings; an `Any` of a type that is not in the message's pool keeps its
/// octets, as base64 in `value`.
pub fn print(message: &DynamicMessage, options: &PrintOptions) -> Result<String, JsonError> {
    let serialize_options = serialize_options(options);
    let mut text = Vec::with_capacity(128);
    let written = if options.pretty {
        let mut serializer = serde_json::Serializer::pretty(&mut text);
        message.serialize_with_options(&mut serializer, &serialize_options)
    } else {
        let mut serializer = serde_json::Serializer::new(&mut text);
        message.serialize_with_options(&mut serializer, &serialize_options)
    };
    if written.is_err() {
        let value = to_value(message, options)?;
        let printed = if options.pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        };
        return printed.map_err(|error| unprintable(message, &error));
    }
    // serde_json writes UTF-8.
    Ok(String::from_utf8(text).unwrap_or_default())
}

/// Returns a message as a JSON value, like [`print`].
pub fn to_value(message: &DynamicMessage, options: &PrintOptions) -> Result<Value, JsonError> {
    match message.serialize_with_options(serde_json::value::Serializer, &serialize_options(options))
    {
        Ok(value) => Ok(value),
        Err(error) => in_parts(message, options, &error),
    }
}

/// Prints a message that cannot be printed as a whole: its scalar fields at once, its messages one by one, until the `Any`
/// that is the reason is alone.
fn in_parts(
    message: &DynamicMessage,
    options: &PrintOptions,
    error: &serde_json::Error,
) -> Result<Value, JsonError> {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Any" {
        let type_url = message.get_field_by_number(1);
        let octets = message.get_field_by_number(2);
        let type_url = type_url.as_deref().and_then(|value| value.as_str()).unwrap_or_default();
        let octets = octets.as_deref().and_then(|value| value.as_bytes());
        let value = STANDARD.encode(octets.map(|octets| &octets[..]).unwrap_or_default());
        return Ok(serde_json::json!({ "@type": type_url, "value": value }));
    }
    let mut scalars = message.clone();
    let mut parts = serde_json::Map::new();
    for field in descriptor.fields() {
        let holds_messages = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                matches!(entry.map_entry_value_field().kind(), Kind::Message(_))
            }
            Kind::Message(_) => true,
            _ => false,
        };
        if !holds_messages || !message.has_field(&field) {
            continue;
        }
        scalars.clear_field(&field);
        let name = if options.proto_names { field.name() } else { field.json_name() };
        let part = |value: &Reflected| match value {
            Reflected::Message(message) => to_value(message, options),
            _ => Ok(Value::Null),
        };
        let value = match message.get_field(&field).as_ref() {
            Reflected::List(values) => {
                Value::Array(values.iter().map(part).collect::<Result<_, _>>()?)
            }
            Reflected::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| Ok((map_key(key), part(value)?)))
                    .collect::<Result<_, JsonError>>()?,
            ),
            value => part(value)?,
        };
        parts.insert(name.to_owned(), value);
    }
    if parts.is_empty() {
        // Nothing is left to take apart.
        return Err(unprintable(message, error));
    }
    let mut value = to_value(&scalars, options)?;
    if let Value::Object(object) = &mut value {
        object.extend(parts);
    }
    Ok(value)
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn unprintable(message: &DynamicMessage, error: &serde_json::Error) -> JsonError {
    JsonError {
        type_name: message.descriptor().full_name().to_owned(),
        path: String::new(),
        reason: format!("cannot be written as JSON: {error}"),
        line: 0,
        column: 0,
    }
}

fn serialize_options(options: &PrintOptions) -> SerializeOptions {
    SerializeOptions::new()
        .skip_default_fields(!options.defaults)
        .use_proto_field_name(options.proto_names)
        .use_enum_numbers(options.enum_numbers)
        .stringify_64_bit_integers(true)
}
