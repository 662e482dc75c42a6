//! `oxgrpc list` and `oxgrpc describe`.

use oxgrpc_schema::prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};
use serde_json::{Value, json};

use crate::arguments::{LookArguments, Output};
use crate::call::{interrupted, method_path, print_line};
use crate::completion;
use crate::connect::Connection;
use crate::failure::Failure;
use crate::metadata::Headers;
use crate::schema::Sources;
use crate::source;
use crate::trace::Trace;

/// Runs `list` and returns its exit code.
pub(crate) async fn list(arguments: &LookArguments) -> u8 {
    let result = tokio::select! {
        result = listing(arguments) => result,
        failure = interrupted() => Err(failure),
    };
    finish(arguments, result)
}

/// Runs `describe` and returns its exit code.
pub(crate) async fn describe(arguments: &LookArguments) -> u8 {
    let result = tokio::select! {
        result = description(arguments) => result,
        failure = interrupted() => Err(failure),
    };
    finish(arguments, result)
}

fn finish(arguments: &LookArguments, result: Result<(String, Value), Failure>) -> u8 {
    let printed = match (&result, arguments.output) {
        (Ok((text, _)), Output::Text) if text.is_empty() => Ok(()),
        (Ok((text, _)), Output::Text) => print_line(text),
        (Ok((_, value)), Output::Json) => print_line(&value.to_string()),
        (Err(failure), Output::Text) => {
            failure.print();
            Ok(())
        }
        (Err(failure), Output::Json) => print_line(&failure_object(failure).to_string()),
    };
    match result.err().or(printed.err()) {
        Some(failure) => failure.kind.exit_code(),
        None => 0,
    }
}

/// What `-o json` prints of a command that failed before it had anything to say.
pub(crate) fn failure_object(failure: &Failure) -> Value {
    json!({"error": failure.to_json(), "exit_code": failure.kind.exit_code()})
}

async fn open<'a>(
    arguments: &'a LookArguments,
    trace: &'a Trace,
) -> Result<(Sources<'a>, Option<String>), Failure> {
    let (address, symbol) = arguments.places()?;
    let headers = Headers::read(&arguments.connection.header).await?;
    let connection = match address {
        Some(address) => {
            Some(Connection::open(&arguments.connection.target(&address)?, trace).await?)
        }
        None => None,
    };
    let sources = Sources::read(&arguments.schema, &headers, connection, trace).await?;
    Ok((sources, symbol))
}

async fn listing(arguments: &LookArguments) -> Result<(String, Value), Failure> {
    let trace = Trace::new(arguments.connection.verbose);
    let (mut sources, symbol) = open(arguments, &trace).await?;
    let Some(name) = symbol else {
        let names = sources.service_names().await?;
        if arguments.output == Output::Json || arguments.schema.save_schema.is_some() {
            sources.learn_all().await?;
        }
        let services: Vec<Value> = names
            .iter()
            .map(|name| match sources.schema.find_service(name) {
                Some(service) => service_json(&service),
                None => json!({"name": name, "methods": null}),
            })
            .collect();
        sources.save()?;
        let answer = json!({"services": services, "gaps": gaps(&sources)});
        completion::keep(arguments.places()?.0, &answer);
        return Ok((names.join("\n"), answer));
    };
    let service = service(&mut sources, &name).await?;
    sources.save()?;
    let methods: Vec<String> = service.methods().map(|method| method_path(&method)).collect();
    Ok((methods.join("\n"), service_json(&service)))
}

async fn service(sources: &mut Sources<'_>, name: &str) -> Result<ServiceDescriptor, Failure> {
    if sources.schema.find_service(name).is_none() {
        let known = sources.service_names().await?;
        let full = known.iter().find(|known| {
            *known == name || known.strip_suffix(name).is_some_and(|package| package.ends_with('.'))
        });
        let Some(full) = full else {
            return Err(Failure::schema(format!("there is no service `{name}`"))
                .hint(format!("the services are {}", known.join(", "))));
        };
        sources.learn(full).await?;
    }
    sources.schema.find_service(name).ok_or_else(|| {
        let gaps: Vec<_> = sources.schema.gaps().iter().map(ToString::to_string).collect();
        Failure::schema(format!(
            "the server lists `{name}` and cannot describe it: {}",
            gaps.join("; ")
        ))
        .hint("--protoset FILE or --proto FILE give the schema")
    })
}

fn gaps(sources: &Sources<'_>) -> Vec<Value> {
    let gaps = sources.schema.gaps().iter();
    gaps.map(|gap| json!({"file": gap.file, "reason": gap.reason})).collect()
}

async fn description(arguments: &LookArguments) -> Result<(String, Value), Failure> {
    let trace = Trace::new(arguments.connection.verbose);
    let (mut sources, symbol) = open(arguments, &trace).await?;
    let result = match symbol {
        None => {
            sources.learn_all().await?;
            let services: Vec<_> = sources.schema.services(true);
            let texts: Vec<String> = services.iter().map(source::service).collect();
            let values: Vec<Value> = services.iter().map(service_json).collect();
            (texts.join("\n\n"), json!({"services": values, "gaps": gaps(&sources)}))
        }
        Some(symbol) => one(&mut sources, symbol.trim_start_matches(['.', '/'])).await?,
    };
    sources.save()?;
    Ok(result)
}

/// Describes the one thing that has this name.
async fn one(sources: &mut Sources<'_>, name: &str) -> Result<(String, Value), Failure> {
    let learned = if name.contains('/') { Ok(()) } else { sources.learn(name).await };
    let builtin = oxgrpc_schema::details::builtin();
    for pool in [sources.schema.pool(), builtin] {
        if let Some(service) = pool.get_service_by_name(name) {
            return Ok((source::service(&service), service_json(&service)));
        }
        if let Some(message) = pool.get_message_by_name(name) {
            return Ok((source::message(&message), message_json(&message)));
        }
        if let Some(found) = pool.get_enum_by_name(name) {
            return Ok((source::enumeration(&found), enum_json(&found)));
        }
        let field = name.rsplit_once('.').and_then(|(message, field)| {
            pool.get_message_by_name(message)?.get_field_by_name(field)
        });
        if let Some(field) = field {
            return Ok((source::field(&field), field_json(&field)));
        }
    }
    learned?;
    if let Some(service) = sources.schema.find_service(name) {
        return Ok((source::service(&service), service_json(&service)));
    }
    if let Ok(service) = service(sources, name).await {
        return Ok((source::service(&service), service_json(&service)));
    }
    match sources.method(name).await {
        Ok(method) => Ok((source::method(&method), method_json(&method))),
        Err(_) => Err(Failure::schema(format!("nothing is named `{name}`"))
            .hint("give the full name of a service, method, message, enum or field")),
    }
}

fn service_json(service: &ServiceDescriptor) -> Value {
    let methods: Vec<Value> = service.methods().map(|method| method_json(&method)).collect();
    json!({
        "kind": "service",
        "name": service.full_name(),
        "file": service.parent_file().name(),
        "methods": methods,
    })
}

fn method_json(method: &MethodDescriptor) -> Value {
    json!({
        "kind": "method",
        "name": method.name(),
        "path": method_path(method),
        "input": method.input().full_name(),
        "output": method.output().full_name(),
        "client_streaming": method.is_client_streaming(),
        "server_streaming": method.is_server_streaming(),
    })
}

fn message_json(message: &MessageDescriptor) -> Value {
    let fields: Vec<Value> = message.fields().map(|field| field_json(&field)).collect();
    json!({
        "kind": "message",
        "name": message.full_name(),
        "file": message.parent_file().name(),
        "fields": fields,
    })
}

fn field_json(field: &FieldDescriptor) -> Value {
    let oneof = field.containing_oneof();
    json!({
        "kind": "field",
        "name": field.name(),
        "json_name": field.json_name(),
        "number": field.number(),
        "type": source::field_type(field),
        "repeated": field.is_list(),
        "map": field.is_map(),
        "required": field.cardinality() == Cardinality::Required,
        "optional": source::is_optional(field),
        "oneof": oneof.filter(|_| !source::is_optional(field)).map(|oneof| oneof.name().to_owned()),
    })
}

fn enum_json(found: &EnumDescriptor) -> Value {
    let values: Vec<Value> = found
        .values()
        .map(|value| json!({"name": value.name(), "number": value.number()}))
        .collect();
    json!({
        "kind": "enum",
        "name": found.full_name(),
        "file": found.parent_file().name(),
        "values": values,
    })
}
