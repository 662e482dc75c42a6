//! Calls to backends: how a service and a method are found, called, and what the outcome is called in band.

mod call;
mod converse;
mod forward;
mod outcome;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxgrpc_schema::json;
use oxgrpc_schema::prost_reflect::prost::Message as _;
use oxgrpc_schema::prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::Status;

pub(crate) use call::{Context, parse_timeout};
pub(crate) use converse::{Conversation, Part};
pub(crate) use forward::forwardable;
pub(crate) use outcome::Failure;
pub(crate) use stream::JsonStream;

use crate::backend::{Backend, Host, HostSchema};
use crate::registry::Registry;

/// Calls registered backends.
#[derive(Clone, Debug)]
pub(crate) struct Invoker {
    registry: Arc<Registry>,
    default_timeout: Duration,
    max_message_bytes: usize,
}

/// A method of a host, as that host serves it now.
struct Resolved {
    host: Arc<Host>,
    schema: Arc<HostSchema>,
    method: MethodDescriptor,
}

impl Invoker {
    pub(crate) fn new(
        registry: Arc<Registry>,
        default_timeout: Duration,
        max_message_bytes: usize,
    ) -> Self {
        Self { registry, default_timeout, max_message_bytes }
    }

    /// Calls a unary method with a serialized request; the octets pass in both directions as they are.
    pub(crate) async fn invoke(
        &self,
        service: &str,
        method: &str,
        request: Bytes,
        context: &mut Context,
    ) -> Result<Bytes, Failure> {
        let backend = self.backend(service, method)?;
        let mut unreachable = None;
        for host in backend.candidates() {
            let resolved = match resolve(&host, method).await {
                Ok(resolved) => resolved,
                Err(Failure::Unreachable(reason)) => {
                    unreachable = Some(reason);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            unary_only(&resolved.method)?;
            match self.call_again(resolved, method, request.clone(), context).await {
                Err(Failure::Unreachable(reason)) => unreachable = Some(reason),
                outcome => return outcome.map(|(response, _)| response),
            }
        }
        Err(nobody(service, unreachable))
    }

    /// Calls a unary method with a request in protobuf JSON, and returns the response as such.
    pub(crate) async fn invoke_json(
        &self,
        service: &str,
        method: &str,
        request: &str,
        context: &mut Context,
    ) -> Result<String, Failure> {
        let backend = self.backend(service, method)?;
        let mut unreachable = None;
        for host in backend.candidates() {
            let (resolved, octets) = match prepare(&host, method, request).await {
                Ok(prepared) => prepared,
                Err(Failure::Unreachable(reason)) => {
                    unreachable = Some(reason);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            unary_only(&resolved.method)?;
            match self.call_again(resolved, method, octets, context).await {
                Err(Failure::Unreachable(reason)) => unreachable = Some(reason),
                Err(failure) => return Err(failure),
                Ok((response, resolved)) => return print(&resolved, response).await,
            }
        }
        Err(nobody(service, unreachable))
    }

    /// Calls, and once more where the host says that it has no such method although its schema had: it may have been
    /// replaced.
    async fn call_again(
        &self,
        resolved: Resolved,
        method: &str,
        request: Bytes,
        context: &mut Context,
    ) -> Result<(Bytes, Resolved), Failure> {
        match self.call(&resolved, request.clone(), context).await {
            Err(Failure::Backend { status, .. }) if status.code() == tonic::Code::Unimplemented => {
                let newer = resolved
                    .host
                    .newer_schema(&resolved.schema)
                    .await
                    .map_err(|status| Failure::unreachable(&status))?;
                if Arc::ptr_eq(&newer, &resolved.schema) {
                    return Err(Failure::backend(status, &resolved.schema));
                }
                let again = find(resolved.host, newer, method)?;
                if again.method.full_name() == resolved.method.full_name() {
                    return Err(Failure::backend(status, &again.schema));
                }
                unary_only(&again.method)?;
                let response = self.call(&again, request, context).await?;
                Ok((response, again))
            }
            Err(failure) => Err(failure),
            Ok(response) => Ok((response, resolved)),
        }
    }

    fn backend(&self, service: &str, method: &str) -> Result<Arc<Backend>, Failure> {
        if service.is_empty() || method.is_empty() {
            let what = if service.is_empty() { "service" } else { "method" };
            return Err(Failure::InvalidRequest(format!("{what} is empty")));
        }
        self.find_backend(service).map_err(|status| Failure::NotFound(status.message().to_owned()))
    }

    /// Finds a registered service, or says which ones there are.
    pub(crate) fn find_backend(&self, service: &str) -> Result<Arc<Backend>, Status> {
        self.registry.find(service).ok_or_else(|| {
            let names: Vec<String> = self
                .registry
                .backends()
                .iter()
                .map(|backend| backend.entry().name.clone())
                .collect();
            let registered = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Status::not_found(format!(
                "no service {service:?} is registered; registered: {registered}"
            ))
        })
    }

    /// Returns the schema of a backend, from the first host that has one.
    pub(crate) async fn schema(&self, backend: &Backend) -> Result<Arc<HostSchema>, Status> {
        let mut failure = Status::unavailable(format!("{} has no hosts", backend.entry().name));
        for host in backend.candidates() {
            match host.schema().await {
                Ok(schema) => return Ok(schema),
                Err(status) => failure = status,
            }
        }
        Err(failure)
    }

    /// Finds a method of a backend, in a newer schema if the one at hand does not know it.
    pub(crate) async fn method(
        &self,
        backend: &Backend,
        method: &str,
    ) -> Result<MethodDescriptor, Status> {
        let mut failure = Failure::Unreachable(format!("{} has no hosts", backend.entry().name));
        for host in backend.candidates() {
            match resolve(&host, method).await {
                Ok(resolved) => return Ok(resolved.method),
                Err(found) => failure = found,
            }
        }
        Err(failure.into_status())
    }
}

/// Finds a method on a host; a name that its schema does not know makes it fetch the schema again.
async fn resolve(host: &Arc<Host>, method: &str) -> Result<Resolved, Failure> {
    let schema = host.schema().await.map_err(|status| Failure::unreachable(&status))?;
    if let Ok(found) = schema.method(method) {
        return Ok(Resolved { host: host.clone(), schema, method: found });
    }
    let newer = host.newer_schema(&schema).await.map_err(|status| Failure::unreachable(&status))?;
    find(host.clone(), newer, method)
}

fn find(host: Arc<Host>, schema: Arc<HostSchema>, method: &str) -> Result<Resolved, Failure> {
    match schema.method(method) {
        Ok(method) => Ok(Resolved { host, schema, method }),
        Err(error @ oxgrpc_schema::MethodNotFound::Ambiguous { .. }) => {
            Err(Failure::InvalidRequest(error.to_string()))
        }
        Err(error) => Err(Failure::NotFound(format!("{} has {error}", host.target()))),
    }
}

/// Finds a method and encodes its request. A request that does not fit makes the host's schema be fetched again, since the
/// host may have learned new fields.
async fn prepare(
    host: &Arc<Host>,
    method: &str,
    request: &str,
) -> Result<(Resolved, Bytes), Failure> {
    let resolved = resolve(host, method).await?;
    match encode(&resolved, request) {
        Ok(octets) => Ok((resolved, octets)),
        Err(failure) => {
            let newer = host
                .newer_schema(&resolved.schema)
                .await
                .map_err(|status| Failure::unreachable(&status))?;
            if Arc::ptr_eq(&newer, &resolved.schema) {
                return Err(failure);
            }
            let resolved = find(host.clone(), newer, method)?;
            let octets = encode(&resolved, request)?;
            Ok((resolved, octets))
        }
    }
}

fn encode(resolved: &Resolved, request: &str) -> Result<Bytes, Failure> {
    resolved
        .schema
        .schema()
        .check(&resolved.method)
        .map_err(|incomplete| Failure::Unreachable(incomplete.to_string()))?;
    let message = json::parse(resolved.method.input(), request)
        .map_err(|error| Failure::InvalidRequest(error.to_string()))?;
    Ok(message.encode_to_vec().into())
}

/// Prints a response with the schema of the host that answered, as that host is now.
async fn print(resolved: &Resolved, response: Bytes) -> Result<String, Failure> {
    let mut method = resolved.method.clone();
    // The host was replaced while it was called: the response may have fields that only the new schema knows.
    if let Ok(current) = resolved.host.schema().await
        && !Arc::ptr_eq(&current, &resolved.schema)
        && let Ok(newer) = current.method(method.full_name())
    {
        method = newer;
    }
    print_as(&method, response)
}

fn print_as(method: &MethodDescriptor, response: Bytes) -> Result<String, Failure> {
    let output = method.output();
    let name = output.full_name().to_owned();
    let message = DynamicMessage::decode(output, response).map_err(|error| {
        Failure::Internal(format!(
            "the response of {} is not a {name}: {error}",
            method.full_name()
        ))
    })?;
    json::print(&message, &json::PrintOptions::default())
        .map_err(|error| Failure::Internal(error.to_string()))
}

fn unary_only(method: &MethodDescriptor) -> Result<(), Failure> {
    if method.is_client_streaming() || method.is_server_streaming() {
        let way_out = if method.is_client_streaming() {
            "call the backend directly"
        } else {
            "use InvokeJsonStream"
        };
        return Err(Failure::Unsupported(format!(
            "{} is streaming: {way_out}",
            method.full_name()
        )));
    }
    Ok(())
}

fn nobody(service: &str, reason: Option<String>) -> Failure {
    Failure::Unreachable(reason.unwrap_or_else(|| format!("{service} has no hosts")))
}
