//! JSON requests to the gateway's own gRPC services, in process.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use oxgrpc_schema::prost_reflect::prost::Message as _;
use oxgrpc_schema::prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use oxgrpc_schema::{RawCodec, Schema, details, json, path};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Status, Streaming};

use super::Rest;
use crate::invoke::forwardable;
use crate::serve::refusal::json_error;

/// Calls the gateway's own services.
#[derive(Clone)]
pub(crate) struct Transcoder {
    own: Arc<Schema>,
    grpc: Routes,
    limit: usize,
}

/// A response and the headers that came with it.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) message: DynamicMessage,
}

/// A stream of responses.
pub(super) struct Answers {
    pub(super) headers: HeaderMap,
    pub(super) messages: Streaming<Bytes>,
    pub(super) method: MethodDescriptor,
}

impl Transcoder {
    /// Serves the methods of `own`, which `grpc` implements.
    pub(crate) fn new(own: Arc<Schema>, grpc: Routes, limit: usize) -> Self {
        Self { own, grpc, limit }
    }

    pub(super) fn method(&self, name: &str) -> Result<MethodDescriptor, Status> {
        self.own.find_method(name).map_err(|error| Status::unimplemented(error.to_string()))
    }

    pub(super) fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.own.pool().get_message_by_name(name)
    }

    /// Calls a unary method with a request in JSON.
    pub(super) async fn unary(
        &self,
        method: &str,
        headers: &HeaderMap,
        json: &str,
    ) -> Result<Answer, Status> {
        let method = self.method(method)?;
        let request = self.request(&method, headers, json)?;
        let mut client = tonic::client::Grpc::new(self.grpc.clone())
            .max_decoding_message_size(self.limit)
            .max_encoding_message_size(self.limit);
        let Ok(()) = client.ready().await;
        let response = client.unary(request, path(&method), RawCodec).await?;
        let (metadata, octets, _) = response.into_parts();
        let message = decode(&method, octets)?;
        Ok(Answer { headers: metadata.into_headers(), message })
    }

    /// Calls a server-streaming method with a request in JSON.
    pub(super) async fn stream(
        &self,
        method: &str,
        headers: &HeaderMap,
        json: &str,
    ) -> Result<Answers, Status> {
        let method = self.method(method)?;
        let request = self.request(&method, headers, json)?;
        let mut client =
            tonic::client::Grpc::new(self.grpc.clone()).max_decoding_message_size(self.limit);
        let Ok(()) = client.ready().await;
        let response = client.server_streaming(request, path(&method), RawCodec).await?;
        let (metadata, messages, _) = response.into_parts();
        Ok(Answers { headers: metadata.into_headers(), messages, method })
    }

    fn request(
        &self,
        method: &MethodDescriptor,
        headers: &HeaderMap,
        json: &str,
    ) -> Result<Request<Bytes>, Status> {
        let message = json::parse(method.input(), json)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut request = Request::new(message.encode_to_vec().into());
        let mut forwarded = forwardable(headers);
        // A deadline may be given over HTTP as over gRPC.
        if let Some(timeout) = headers.get("grpc-timeout") {
            forwarded.insert("grpc-timeout", timeout.clone());
        }
        *request.metadata_mut() = MetadataMap::from_headers(forwarded);
        Ok(request)
    }
}

pub(super) fn decode(method: &MethodDescriptor, octets: Bytes) -> Result<DynamicMessage, Status> {
    DynamicMessage::decode(method.output(), octets)
        .map_err(|error| Status::internal(error.to_string()))
}

impl Rest {
    /// Returns an error as JSON, its details decoded.
    pub(super) fn error(&self, headers: &HeaderMap, status: &Status) -> Response {
        let details = if status.details().is_empty() {
            Vec::new()
        } else {
            let schemas = self.schemas();
            details::decode(status.details(), schemas.iter().map(|schema| schema.schema().pool()))
        };
        json_error(headers, status, details)
    }
}
