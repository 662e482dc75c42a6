//! `oxgrpc call`: one call of any kind, requests and responses as JSON.
//!
//! Requests go out and responses are printed as they come, in both directions at once. Ctrl-C cancels the call and prints its
//! status like any other.

use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use oxgrpc_schema::code_name;
use oxgrpc_schema::prost_reflect::{DeserializeOptions, DynamicMessage, MethodDescriptor};
use oxgrpc_schema::{RawCodec, details, json as message_json};
use prost::Message as _;
use serde_json::{Map, Value, json};
use tokio::io::BufReader;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::arguments::{CallArguments, Output};
use crate::connect::Connection;
use crate::failure::{DIM, ERROR, Failure, GOOD, Kind};
use crate::input::{Input, LineInput};
use crate::metadata::{Headers, by_name};
use crate::schema::Sources;
use crate::trace::Trace;

/// What is known of a call: what `-o json` prints, whatever the outcome.
#[derive(Default)]
struct Report {
    target: Option<String>,
    method: Option<String>,
    headers: MetadataMap,
    messages: Vec<Value>,
    trailers: MetadataMap,
    status: Option<Status>,
    details: Vec<Value>,
}

/// Runs the command and returns its exit code.
pub(crate) async fn run(arguments: &CallArguments) -> u8 {
    let trace = Trace::new(arguments.method.connection.verbose);
    let mut report = Report::default();
    let result = tokio::select! {
        // A call that is under way takes the interrupt as its cancellation.
        biased;
        result = call(arguments, &trace, &mut report) => result,
        failure = interrupted() => Err(failure),
    };
    let failure = result.err();
    let kind = match (&failure, &report.status) {
        (Some(failure), _) => failure.kind,
        (None, Some(status)) => Kind::Rpc(status.code()),
        (None, None) => Kind::Rpc(Code::Ok),
    };
    let printed = match arguments.method.output {
        Output::Json => print_line(&report.to_json(failure.as_ref(), kind, &trace).to_string()),
        Output::Text => {
            if let Some(status) = &report.status
                && (status.code() != Code::Ok || arguments.method.connection.verbose)
            {
                print_status(status, &report.details);
            }
            if let Some(failure) = &failure {
                failure.print();
            }
            Ok(())
        }
    };
    printed.map_or(Kind::Io.exit_code(), |()| kind.exit_code())
}

async fn call(
    arguments: &CallArguments,
    trace: &Trace,
    report: &mut Report,
) -> Result<(), Failure> {
    let options = &arguments.method;
    let (address, name) = options.places()?;
    let target = options.connection.target(&address)?;
    report.target = Some(target.address.to_string());
    report.method = Some(name.clone());
    let headers = Headers::read(&options.connection.header).await?;
    let own = Headers::read(&options.rpc_header).await?;
    let mut connection = Connection::open(&target, trace).await?;
    let mut sources =
        Sources::read(&options.schema, &headers, Some(connection.clone()), trace).await?;
    let method = sources.method(&name).await?;
    report.method = Some(method_path(&method));
    let (requests, input) =
        requests(&method, options.data.as_deref(), options.allow_unknown_fields)?;
    let headers = headers.with(&own);
    for line in headers.printable() {
        trace.note(|| format!("> {line}"));
    }

    let printer = Printer {
        options: message_json::PrintOptions {
            defaults: arguments.emit_defaults,
            pretty: options.output == Output::Text && !method.is_server_streaming(),
            ..message_json::PrintOptions::default()
        },
        output: options.output,
    };
    let mut request = tonic::Request::new(ReceiverStream::new(requests));
    *request.metadata_mut() = headers.map;
    if let Some(limit) = options.max_time {
        request.set_timeout(limit);
    }
    let exchange =
        exchange(&mut connection, request, &method, options.max_msg_sz, &printer, trace, report);
    let status = tokio::select! {
        // Whatever ends the call first; an answer that is there counts before an interrupt.
        biased;
        status = exchange => status?,
        failure = input.failed() => return Err(failure),
        _ = tokio::signal::ctrl_c() => Status::cancelled("cancelled by Ctrl-C"),
        () = deadline(options.max_time) => {
            Status::deadline_exceeded(format!("--max-time {:?} is over", options.max_time.unwrap_or_default()))
        }
    };
    trace.mark("end", || code_name(status.code()).into());
    if status.code() != Code::Ok {
        merge(&mut report.trailers, status.metadata());
        report.details = decode_details(&status, &mut sources).await;
    }
    for (name, values) in by_name(&report.trailers) {
        trace.note(|| format!("< {name}: {} (trailer)", values.join(", ")));
    }
    report.status = Some(status);
    sources.save()
}

/// Resolves at Ctrl-C.
pub(crate) async fn interrupted() -> Failure {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Failure::new(Kind::Interrupt, "interrupted before there was a call to cancel"),
        Err(error) => Failure::io(format!("signals cannot be handled: {error}")),
    }
}

/// `/package.Service/Method` without the first slash.
pub(crate) fn method_path(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// Sends requests and prints responses until the call has a status.
async fn exchange(
    connection: &mut Connection,
    request: tonic::Request<ReceiverStream<Bytes>>,
    method: &MethodDescriptor,
    max_message_bytes: Option<usize>,
    printer: &Printer,
    trace: &Trace,
    report: &mut Report,
) -> Result<Status, Failure> {
    let mut grpc = tonic::client::Grpc::new(connection)
        .max_decoding_message_size(max_message_bytes.unwrap_or(usize::MAX))
        .max_encoding_message_size(usize::MAX);
    if let Err(error) = grpc.ready().await {
        return Ok(lost(&error));
    }
    let response = match grpc.streaming(request, oxgrpc_schema::path(method), RawCodec).await {
        Ok(response) => response,
        Err(status) => return Ok(connection_status(status)),
    };
    let (headers, mut messages, _) = response.into_parts();
    trace.mark("headers", String::new);
    for (name, values) in by_name(&headers) {
        trace.note(|| format!("< {name}: {}", values.join(", ")));
    }
    report.headers = headers;
    let mut first = true;
    // A single response counts only with the status OK, so it waits for it.
    let mut single = None;
    loop {
        match messages.message().await {
            Ok(Some(octets)) => {
                if std::mem::take(&mut first) {
                    trace.mark("first message", || format!("{} octets", octets.len()));
                }
                let message = DynamicMessage::decode(method.output(), octets).map_err(|error| {
                    Failure::schema(format!(
                        "the response is not a {}: {error}",
                        method.output().full_name()
                    ))
                    .hint("the server may have another version of the schema")
                })?;
                if method.is_server_streaming() {
                    printer.print(&message, &mut report.messages)?;
                } else if single.replace(message).is_some() {
                    return Ok(Status::internal("the server sent more than one response"));
                }
            }
            Ok(None) => {
                match messages.trailers().await {
                    Ok(Some(trailers)) => merge(&mut report.trailers, &trailers),
                    Ok(None) => {}
                    Err(status) => return Ok(status),
                }
                return match single {
                    Some(message) => {
                        printer.print(&message, &mut report.messages).map(|()| Status::ok(""))
                    }
                    None if method.is_server_streaming() => Ok(Status::ok("")),
                    None => Ok(Status::internal("the status is OK, and the response is missing")),
                };
            }
            Err(status) => return Ok(connection_status(status)),
        }
    }
}

/// A connection that was there and is not any more.
pub(crate) fn lost(error: &dyn std::error::Error) -> Status {
    Status::unavailable(format!("the connection was lost: {error}"))
}

/// tonic's status of a call whose connection was lost is UNKNOWN; gRPC's is UNAVAILABLE (statuscodes.md).
pub(crate) fn connection_status(status: Status) -> Status {
    let mut source = std::error::Error::source(&status);
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref::<h2::Error>()
            && (h2.is_io() || h2.is_go_away())
        {
            return lost(h2);
        }
        if let Some(hyper) = error.downcast_ref::<hyper::Error>()
            && (hyper.is_closed() || hyper.is_canceled() || hyper.is_incomplete_message())
        {
            return lost(hyper);
        }
        source = error.source();
    }
    status
}

async fn deadline(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Adds trailers, without those that make up the status.
fn merge(into: &mut MetadataMap, from: &MetadataMap) {
    let mut headers = std::mem::take(into).into_headers();
    headers.extend(from.clone().into_headers());
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        headers.remove(name);
    }
    *into = MetadataMap::from_headers(headers);
}

/// A status's details; types that are not known are asked of the server, even if the schema comes from files.
async fn decode_details(status: &Status, sources: &mut Sources<'_>) -> Vec<Value> {
    let octets = status.details();
    if octets.is_empty() {
        return Vec::new();
    }
    for name in detail_types(octets) {
        if !sources.knows(&name) {
            // Where nobody knows the type, its octets are shown.
            let _ = tokio::time::timeout(Duration::from_secs(5), sources.learn(&name)).await;
        }
    }
    details::decode(octets, Some(sources.schema.pool()))
}

/// The full names of the types of details.
fn detail_types(octets: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = details::decode(octets, None)
        .iter()
        .filter_map(|detail| detail.get("@type")?.as_str())
        .map(|url| url.rsplit_once('/').map_or(url, |(_, name)| name).to_owned())
        .collect();
    names.dedup();
    names
}

/// Resolves when standard input turns out not to fit.
struct InputFailure(Option<oneshot::Receiver<Failure>>);

impl InputFailure {
    async fn failed(self) -> Failure {
        match self.0 {
            Some(receiver) => match receiver.await {
                Ok(failure) => failure,
                // Input has ended well.
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

/// Encodes the requests that are given, or begins to read them from standard input.
fn requests(
    method: &MethodDescriptor,
    data: Option<&str>,
    lenient: bool,
) -> Result<(mpsc::Receiver<Bytes>, InputFailure), Failure> {
    match Input::read(data, method.is_client_streaming())? {
        Input::Given(texts) => {
            let encoded = encode_all(method, &texts, lenient)?;
            let (sender, receiver) = mpsc::channel(encoded.len().max(1));
            for request in encoded {
                // The channel has room for all of them.
                let _ = sender.try_send(request);
            }
            Ok((receiver, InputFailure(None)))
        }
        Input::Stdin => {
            let (sender, receiver) = mpsc::channel(16);
            let (failed, failure) = oneshot::channel();
            let method = method.clone();
            tokio::spawn(async move {
                if let Err(failure) = pump(&method, lenient, &sender).await {
                    let _ = failed.send(failure);
                    // The stream of requests must not seem to have ended well before the failure is seen.
                    std::future::pending::<()>().await;
                }
            });
            Ok((receiver, InputFailure(Some(failure))))
        }
    }
}

/// Encodes requests that are all there.
pub(crate) fn encode_all(
    method: &MethodDescriptor,
    texts: &[String],
    lenient: bool,
) -> Result<Vec<Bytes>, Failure> {
    let empty = ["{}".to_owned()];
    let texts = match texts {
        [] if !method.is_client_streaming() => &empty,
        [_, _, ..] if !method.is_client_streaming() => {
            return Err(Failure::schema(format!(
                "{} takes one request, and {} were given",
                method_path(method),
                texts.len()
            )));
        }
        texts => texts,
    };
    texts.iter().map(|text| encode(method, text, lenient)).collect()
}

/// Sends what comes on standard input.
async fn pump(
    method: &MethodDescriptor,
    lenient: bool,
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), Failure> {
    let mut input = LineInput::new(BufReader::new(tokio::io::stdin()));
    let mut count = 0;
    while let Some(text) = input.next().await? {
        count += 1;
        if count > 1 && !method.is_client_streaming() {
            return Err(Failure::schema(format!(
                "{} takes one request, and standard input holds more",
                method_path(method)
            )));
        }
        if sender.send(encode(method, &text, lenient)?).await.is_err() {
            // The call is over.
            return Ok(());
        }
    }
    if count == 0 && !method.is_client_streaming() {
        let _ = sender.send(Bytes::new()).await;
    }
    Ok(())
}

fn encode(method: &MethodDescriptor, text: &str, lenient: bool) -> Result<Bytes, Failure> {
    let message = if lenient {
        let mut json = serde_json::Deserializer::from_str(text);
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        DynamicMessage::deserialize_with_options(method.input(), &mut json, &options)
            .map_err(|error| Failure::schema(format!("{}: {error}", method.input().full_name())))?
    } else {
        message_json::parse(method.input(), text).map_err(|error| {
            Failure::schema(format!("the request does not fit: {error}")).hint(format!(
                "`oxgrpc describe ADDRESS {}` shows the fields",
                method.input().full_name()
            ))
        })?
    };
    Ok(message.encode_to_vec().into())
}

/// Prints responses, or keeps them for the report.
struct Printer {
    options: message_json::PrintOptions,
    output: Output,
}

impl Printer {
    fn print(&self, message: &DynamicMessage, kept: &mut Vec<Value>) -> Result<(), Failure> {
        let failed = |error: message_json::JsonError| Failure::schema(error.to_string());
        match self.output {
            Output::Json => {
                kept.push(message_json::to_value(message, &self.options).map_err(failed)?)
            }
            Output::Text => {
                let text = message_json::print(message, &self.options).map_err(failed)?;
                print_line(&text)?;
            }
        }
        Ok(())
    }
}

/// Prints a line to standard output at once.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::io(format!("standard output: {error}")))
}

fn print_status(status: &Status, details: &[Value]) {
    let mut stderr = anstream::stderr().lock();
    let style = if status.code() == Code::Ok { GOOD } else { ERROR };
    let code = status.code();
    // A closed standard error leaves nowhere to report to.
    let _ = write!(stderr, "{style}{}{style:#} {DIM}({}){DIM:#}", code_name(code), code as i32);
    let _ = match status.message() {
        "" => writeln!(stderr),
        message => writeln!(stderr, ": {message}"),
    };
    for detail in details {
        let _ = writeln!(stderr, "  {DIM}detail{DIM:#} {detail}");
    }
}

impl Report {
    fn to_json(&self, failure: Option<&Failure>, kind: Kind, trace: &Trace) -> Value {
        let status = self.status.as_ref().map(|status| {
            json!({
                "code": status.code() as i32,
                "name": code_name(status.code()),
                "message": status.message(),
            })
        });
        json!({
            "target": self.target,
            "method": self.method,
            "headers": metadata(&self.headers),
            "messages": self.messages,
            "trailers": metadata(&self.trailers),
            "status": status,
            "details": self.details,
            "error": failure.map(Failure::to_json),
            "exit_code": kind.exit_code(),
            "timings": trace.to_json(),
        })
    }
}

fn metadata(map: &MetadataMap) -> Value {
    let names: Map<String, Value> =
        by_name(map).into_iter().map(|(name, values)| (name, values.into())).collect();
    Value::Object(names)
}
