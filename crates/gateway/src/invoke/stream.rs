//! `InvokeJsonStream`: a unary or server-streaming method of a backend as a stream of JSON messages.
//!
//! Each message of the backend is one response; the last response carries the status.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::unfold;
use oxgrpc_proto::virtufin::InvokeJsonResponse;
use oxgrpc_schema::RawCodec;
use tonic::{Status, Streaming};

use super::{Context, Failure, Invoker, Resolved, nobody, prepare, print_as};

/// The responses of `InvokeJsonStream`.
pub(crate) type JsonStream = Pin<Box<dyn Stream<Item = Result<InvokeJsonResponse, Status>> + Send>>;

/// A stream that has not ended.
struct Running {
    resolved: Resolved,
    messages: Streaming<Bytes>,
    until: tokio::time::Instant,
    timeout: Duration,
}

impl Invoker {
    /// Calls a unary or server-streaming method. What fails before the first message is the error of the call itself.
    pub(crate) async fn invoke_json_stream(
        &self,
        service: &str,
        method: &str,
        request: &str,
        context: &mut Context,
    ) -> Result<JsonStream, Failure> {
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
            if resolved.method.is_client_streaming() {
                return Err(Failure::Unsupported(format!(
                    "{} takes a stream: call the backend directly",
                    resolved.method.full_name()
                )));
            }
            match self.open(resolved, octets, context).await {
                Err(Failure::Unreachable(reason)) => unreachable = Some(reason),
                outcome => return outcome,
            }
        }
        Err(nobody(service, unreachable))
    }

    async fn open(
        &self,
        resolved: Resolved,
        octets: Bytes,
        context: &mut Context,
    ) -> Result<JsonStream, Failure> {
        let (mut client, request, timeout) = self.begin(&resolved, octets, context).await?;
        let until = tokio::time::Instant::now() + timeout;
        let path = oxgrpc_schema::path(&resolved.method);
        let call = client.server_streaming(request, path, RawCodec);
        let response = tokio::time::timeout_at(until, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(String::new())))
            .map_err(|status| self.blame(&resolved, status, timeout))?;
        context.response_headers = super::forwardable(response.metadata().as_ref());
        let mut messages = response.into_inner();
        // The first message decides whether the call fails as a whole.
        let first = tokio::time::timeout_at(until, messages.message())
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(String::new())))
            .map_err(|status| self.blame(&resolved, status, timeout))?;
        resolved.host.mark_serving();
        let invoker = self.clone();
        let Some(first) = first else {
            return Ok(Box::pin(futures_util::stream::iter([Ok(succeeded())])));
        };
        let first = message(&resolved, first)?;
        let running = Box::new(Running { resolved, messages, until, timeout });
        let rest = unfold(Some(running), move |running| {
            let invoker = invoker.clone();
            async move {
                let mut running = running?;
                let next = tokio::time::timeout_at(running.until, running.messages.message())
                    .await
                    .unwrap_or_else(|_| Err(Status::deadline_exceeded(String::new())));
                let outcome = match next {
                    Ok(None) => return Some((Ok(succeeded()), None)),
                    Ok(Some(octets)) => message(&running.resolved, octets),
                    Err(status) => Err(invoker.blame(&running.resolved, status, running.timeout)),
                };
                Some(match outcome {
                    Ok(response) => (Ok(response), Some(running)),
                    Err(failure) => (Ok(failed(&failure)), None),
                })
            }
        });
        let first = futures_util::stream::iter([Ok(first)]);
        Ok(Box::pin(futures_util::StreamExt::chain(first, rest)))
    }
}

fn message(resolved: &Resolved, octets: Bytes) -> Result<InvokeJsonResponse, Failure> {
    let response_data = print_as(&resolved.method, octets)?;
    // Only the last response has a status.
    Ok(InvokeJsonResponse { success: true, response_data, ..Default::default() })
}

fn succeeded() -> InvokeJsonResponse {
    InvokeJsonResponse { success: true, status: "OK".into(), ..Default::default() }
}

fn failed(failure: &Failure) -> InvokeJsonResponse {
    InvokeJsonResponse {
        success: false,
        status: failure.word().into(),
        message: failure.message().into(),
        response_data: failure.details_json(),
    }
}
