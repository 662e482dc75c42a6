//! A call of any kind whose requests come one by one: what the console makes.

use bytes::Bytes;
use oxgrpc_schema::prost_reflect::MethodDescriptor;
use oxgrpc_schema::prost_reflect::prost::Message as _;
use oxgrpc_schema::{RawCodec, json};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::{Context, Failure, Invoker, Resolved, nobody, print_as, resolve};

/// Requests and parts of an answer that wait: whoever is too fast waits, too.
const QUEUE: usize = 16;

/// What a call answers with, in this order; the last one is always [`Part::Ended`].
#[derive(Debug)]
pub(crate) enum Part {
    /// The initial metadata.
    Headers(MetadataMap),
    /// A message, as protobuf JSON.
    Message(String),
    /// The status, and the trailing metadata of a call that succeeded.
    Ended(Result<MetadataMap, Failure>, Duration),
}

/// A call under way. Dropping `parts` cancels it.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) method: MethodDescriptor,
    /// Dropping the last sender ends the requests.
    pub(crate) requests: mpsc::Sender<Bytes>,
    pub(crate) parts: mpsc::Receiver<Part>,
}

impl Conversation {
    /// Encodes a request, or says where it does not fit.
    pub(crate) fn encode(method: &MethodDescriptor, request: &str) -> Result<Bytes, Failure> {
        let message = json::parse(method.input(), request)
            .map_err(|error| Failure::InvalidRequest(error.to_string()))?;
        Ok(message.encode_to_vec().into())
    }
}

impl Invoker {
    /// Begins a call. It has no deadline of its own but the one that `context` has.
    pub(crate) async fn converse(
        &self,
        service: &str,
        method: &str,
        context: Context,
    ) -> Result<Conversation, Failure> {
        let backend = self.backend(service, method)?;
        let mut unreachable = None;
        for host in backend.candidates() {
            match resolve(&host, method).await {
                Ok(resolved) => return self.begin_conversation(resolved, context).await,
                Err(Failure::Unreachable(reason)) => unreachable = Some(reason),
                Err(failure) => return Err(failure),
            }
        }
        Err(nobody(service, unreachable))
    }

    async fn begin_conversation(
        &self,
        resolved: Resolved,
        context: Context,
    ) -> Result<Conversation, Failure> {
        let whole = resolved.schema.schema().check(&resolved.method);
        whole.map_err(|incomplete| Failure::Unreachable(incomplete.to_string()))?;
        let (mut client, head, timeout) = self.begin(&resolved, Bytes::new(), &context).await?;
        let (requests, queued) = mpsc::channel(QUEUE);
        let (answer, parts) = mpsc::channel(QUEUE);
        let mut request = Request::new(ReceiverStream::new(queued));
        *request.metadata_mut() = head.into_parts().0;
        if context.deadline.is_none() {
            request.metadata_mut().remove("grpc-timeout");
        }
        let method = resolved.method.clone();
        let invoker = self.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let path = oxgrpc_schema::path(&resolved.method);
            let talking = async {
                let response = client.streaming(request, path, RawCodec).await?;
                resolved.host.mark_serving();
                let (headers, mut messages, _) = response.into_parts();
                if answer.send(Part::Headers(headers)).await.is_err() {
                    return Ok(Ok(MetadataMap::new()));
                }
                while let Some(octets) = messages.message().await? {
                    let message = match print_as(&resolved.method, octets) {
                        Ok(message) => message,
                        Err(failure) => return Ok(Err(failure)),
                    };
                    if answer.send(Part::Message(message)).await.is_err() {
                        return Ok(Ok(MetadataMap::new()));
                    }
                }
                Ok(Ok(messages.trailers().await?.unwrap_or_default()))
            };
            let outcome = tokio::select! {
                // Nobody listens: dropping the call cancels it.
                () = answer.closed() => return,
                outcome = talking => outcome,
            };
            let outcome =
                outcome.unwrap_or_else(|status| Err(invoker.blame(&resolved, status, timeout)));
            let _ = answer.send(Part::Ended(outcome, begun.elapsed())).await;
        });
        Ok(Conversation { method, requests, parts })
    }
}
