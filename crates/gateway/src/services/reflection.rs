//! Server reflection, `v1` and `v1alpha`: the gateway's own services and, aggregated, those of its backends.
//!
//! Two backends may each have a `service.proto`. A call remembers whose schema has answered, and asks that one first for the
//! files that the answer imports.

use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::StreamExt as _;
use oxgrpc_schema::Schema;
use prost::Message as _;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::server_reflection_server::ServerReflection;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use tonic_reflection::pb::v1alpha;
use tonic_reflection::pb::v1alpha::server_reflection_server::ServerReflection as ServerReflectionAlpha;

use crate::backend::HostSchema;
use crate::registry::Registry;

/// Serves reflection.
#[derive(Clone)]
pub(crate) struct Reflection {
    pub(crate) own: Arc<Schema>,
    pub(crate) registry: Arc<Registry>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One reflection call.
struct Call {
    reflection: Reflection,
    /// Whose schema has answered last; `None` for our own.
    last: Option<Arc<HostSchema>>,
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = Answers<ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let call = Call { reflection: self.clone(), last: None };
        let answers = futures_util::stream::unfold(
            (call, request.into_inner()),
            |(mut call, mut questions)| async move {
                let answer = match questions.message().await {
                    Ok(None) => return None,
                    Ok(Some(question)) => Ok(call.answer(question).await),
                    Err(status) => Err(status),
                };
                Some((answer, (call, questions)))
            },
        );
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl ServerReflectionAlpha for Reflection {
    type ServerReflectionInfoStream = Answers<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let call = Call { reflection: self.clone(), last: None };
        let answers = futures_util::stream::unfold(
            (call, request.into_inner()),
            |(mut call, mut questions)| async move {
                let question = match questions.message().await {
                    Ok(None) => return None,
                    Ok(Some(question)) => question,
                    Err(status) => return Some((Err(status), (call, questions))),
                };
                // Both versions have the same messages.
                let answer =
                    match ServerReflectionRequest::decode(question.encode_to_vec().as_slice()) {
                        Ok(question) => {
                            let answer = call.answer(question).await.encode_to_vec();
                            v1alpha::ServerReflectionResponse::decode(answer.as_slice())
                        }
                        Err(error) => Err(error),
                    };
                let answer = answer.map_err(|error| Status::internal(error.to_string()));
                Some((answer, (call, questions)))
            },
        );
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Call {
    async fn answer(&mut self, question: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &question.message_request {
            None => error(Code::InvalidArgument, "the request asks nothing"),
            Some(MessageRequest::ListServices(_)) => self.list().await,
            Some(wanted) => match self.find(wanted).await {
                Some(answer) => answer,
                None => error(Code::NotFound, &format!("not found: {wanted:?}")),
            },
        };
        ServerReflectionResponse {
            valid_host: question.host.clone(),
            original_request: Some(question),
            message_response: Some(answer),
        }
    }

    async fn list(&self) -> MessageResponse {
        let mut names: Vec<String> = services_of(&self.reflection.own, true);
        for schema in backends(self.reflection.registry.clone()).await {
            names.extend(services_of(schema.schema(), false));
        }
        names.sort();
        names.dedup();
        let service = names.into_iter().map(|name| ServiceResponse { name }).collect();
        MessageResponse::ListServicesResponse(ListServiceResponse { service })
    }

    /// Asks the schema that has answered last, our own, and those of the backends.
    async fn find(&mut self, wanted: &MessageRequest) -> Option<MessageResponse> {
        if let Some(found) = self.last.as_ref().and_then(|last| look(last.schema(), wanted)) {
            return Some(found);
        }
        if let Some(found) = look(&self.reflection.own, wanted) {
            self.last = None;
            return Some(found);
        }
        for schema in backends(self.reflection.registry.clone()).await {
            if let Some(found) = look(schema.schema(), wanted) {
                self.last = Some(schema);
                return Some(found);
            }
        }
        None
    }
}

/// Returns the schemas of the backends that can be had.
async fn backends(registry: Arc<Registry>) -> Vec<Arc<HostSchema>> {
    let schemas = registry.backends().into_iter().map(|backend| async move {
        let host = backend.candidates().into_iter().next()?;
        if host.is_down() { None } else { host.schema().await.ok() }
    });
    futures_util::stream::iter(schemas).buffered(8).filter_map(std::future::ready).collect().await
}

/// Looks something up in one schema.
fn look(schema: &Schema, wanted: &MessageRequest) -> Option<MessageResponse> {
    match wanted {
        MessageRequest::ListServices(_) => None,
        MessageRequest::FileByFilename(name) => file(schema, name),
        MessageRequest::FileContainingSymbol(symbol) => {
            file(schema, &schema.file_of_symbol(symbol)?)
        }
        MessageRequest::FileContainingExtension(wanted) => {
            let message = schema.pool().get_message_by_name(&wanted.containing_type)?;
            let number = u32::try_from(wanted.extension_number).ok()?;
            file(schema, message.get_extension(number)?.parent_file().name())
        }
        MessageRequest::AllExtensionNumbersOfType(name) => {
            let message = schema.pool().get_message_by_name(name)?;
            let extension_number = message
                .extensions()
                .filter_map(|extension| i32::try_from(extension.number()).ok())
                .collect();
            Some(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                base_type_name: name.clone(),
                extension_number,
            }))
        }
    }
}

fn services_of(schema: &Schema, infrastructure: bool) -> Vec<String> {
    schema.services(infrastructure).iter().map(|service| service.full_name().to_owned()).collect()
}

fn file(schema: &Schema, name: &str) -> Option<MessageResponse> {
    let file_descriptor_proto = vec![schema.file(name)?.encode_to_vec()];
    Some(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
}

fn error(code: Code, message: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: code as i32,
        error_message: message.to_owned(),
    })
}
