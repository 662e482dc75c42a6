//! A client of server reflection: `grpc.reflection.v1`, and `v1alpha` where a server does not have that.
//!
//! https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. Both versions have the same messages.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::Schema;
use crate::assemble::assemble;

const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Large schemas have large files.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Why reflection failed.
#[derive(Debug, thiserror::Error)]
pub enum ReflectionError {
    /// The server has no reflection service.
    #[error(
        "the server does not support reflection (grpc.reflection.v1 and v1alpha are unimplemented)"
    )]
    Unsupported,
    /// The call failed.
    #[error("reflection failed: {}: {}", .0.code(), .0.message())]
    Failed(Status),
}

impl From<Status> for ReflectionError {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// A reflection call in progress. Dropping it ends the call.
#[derive(Debug)]
pub struct ReflectionClient {
    requests: mpsc::UnboundedSender<ServerReflectionRequest>,
    responses: Streaming<ServerReflectionResponse>,
    services: Vec<String>,
}

impl ReflectionClient {
    /// Opens a reflection call on a channel and lists the services. `metadata` goes with the call.
    pub async fn connect<T>(channel: T, metadata: &MetadataMap) -> Result<Self, ReflectionError>
    where
        T: GrpcService<Body> + Clone,
        T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
        <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
        T::Error: Into<BoxError>,
    {
        for path in PATHS {
            match Self::open(channel.clone(), PathAndQuery::from_static(path), metadata).await {
                Err(status) if status.code() == Code::Unimplemented => {}
                Err(status) => return Err(ReflectionError::Failed(status)),
                Ok(client) => return Ok(client),
            }
        }
        Err(ReflectionError::Unsupported)
    }

    async fn open<T>(channel: T, path: PathAndQuery, metadata: &MetadataMap) -> Result<Self, Status>
    where
        T: GrpcService<Body>,
        T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
        <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
        T::Error: Into<BoxError>,
    {
        let mut grpc =
            tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        // The first request is on its way before headers are awaited: some servers send none until then.
        let _ = requests.send(request(MessageRequest::ListServices(String::new())));
        let mut call = tonic::Request::new(UnboundedReceiverStream::new(outgoing));
        *call.metadata_mut() = metadata.clone();
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let responses = grpc.streaming(call, path, codec).await?.into_inner();
        let mut client = Self { requests, responses, services: Vec::new() };
        client.services = match client.next().await? {
            MessageResponse::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect()
            }
            MessageResponse::ErrorResponse(error) => {
                return Err(Status::new(Code::from(error.error_code), error.error_message));
            }
            _ => return Err(Status::internal("an answer to another question than was asked")),
        };
        Ok(client)
    }

    /// Returns the names of the server's services.
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// Fetches the schema of all services; without reflection, health and the like unless asked for.
    pub async fn schema(&mut self, infrastructure: bool) -> Result<Schema, ReflectionError> {
        let wanted: Vec<String> = self
            .services
            .iter()
            .filter(|name| infrastructure || !crate::is_infrastructure(name))
            .cloned()
            .collect();
        self.schema_of(&wanted).await
    }

    /// Fetches the files that define the given services, messages or enums, and what those import.
    ///
    /// What the server cannot provide is a gap of the schema, not an error.
    pub async fn schema_of(&mut self, symbols: &[String]) -> Result<Schema, ReflectionError> {
        let mut files = BTreeMap::new();
        let mut refused = BTreeMap::new();
        let questions = symbols
            .iter()
            .map(|symbol| (symbol.clone(), MessageRequest::FileContainingSymbol(symbol.clone())))
            .collect();
        self.ask(questions, &mut files, &mut refused).await?;
        loop {
            let missing: BTreeSet<String> = files
                .values()
                .flat_map(|file: &FileDescriptorProto| &file.dependency)
                .filter(|name| !files.contains_key(*name) && !refused.contains_key(*name))
                .cloned()
                .collect();
            if missing.is_empty() {
                break;
            }
            let questions = missing
                .into_iter()
                .map(|name| (name.clone(), MessageRequest::FileByFilename(name)))
                .collect();
            self.ask(questions, &mut files, &mut refused).await?;
        }
        let mut schema = assemble(files, refused.clone());
        for symbol in symbols {
            if let Some(reason) = refused.get(symbol) {
                schema.gaps.push(crate::Gap { file: symbol.clone(), reason: reason.clone() });
            }
        }
        Ok(schema)
    }

    /// Asks all questions at once, then reads the answers, which come in the same order.
    async fn ask(
        &mut self,
        questions: Vec<(String, MessageRequest)>,
        files: &mut BTreeMap<String, FileDescriptorProto>,
        refused: &mut BTreeMap<String, String>,
    ) -> Result<(), Status> {
        let names: Vec<String> = questions
            .into_iter()
            .map(|(name, question)| {
                let _ = self.requests.send(request(question));
                name
            })
            .collect();
        for name in names {
            match self.next().await? {
                MessageResponse::FileDescriptorResponse(answer) => {
                    for octets in answer.file_descriptor_proto {
                        match FileDescriptorProto::decode(octets.as_slice()) {
                            Ok(file) => {
                                files.entry(file.name().to_owned()).or_insert(file);
                            }
                            Err(error) => {
                                refused.insert(
                                    name.clone(),
                                    format!("not a file descriptor: {error}"),
                                );
                            }
                        }
                    }
                    if !files.contains_key(&name) && name.ends_with(".proto") {
                        refused
                            .entry(name)
                            .or_insert_with(|| "the server answers with other files".to_owned());
                    }
                }
                MessageResponse::ErrorResponse(error) => {
                    refused.insert(name, format!("the server says: {}", error.error_message));
                }
                _ => {
                    refused.insert(name, "the server answers another question".to_owned());
                }
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<MessageResponse, Status> {
        self.responses.message().await?.and_then(|response| response.message_response).ok_or_else(
            || Status::internal("the server ended the reflection call without an answer"),
        )
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn request(question: MessageRequest) -> ServerReflectionRequest {
    ServerReflectionRequest { host: String::new(), message_request: Some(question) }
}
