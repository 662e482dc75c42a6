//! `virtufin.Gateway`: calls to backends, and what can be called.

use std::sync::Arc;

use oxgrpc_proto::virtufin::gateway_server::Gateway;
use oxgrpc_proto::virtufin::{
    GetMethodSchemaRequest, GetMethodSchemaResponse, InvokeJsonRequest, InvokeJsonResponse,
    InvokeRequest, InvokeResponse, ListMethodsRequest, ListMethodsResponse, ListServicesRequest,
    ListServicesResponse, SubscribeRequest,
};
use oxgrpc_schema::Schema;
use oxgrpc_schema::prost_reflect::{MethodDescriptor, ServiceDescriptor};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::schema;
use crate::invoke::{Context, Failure, Invoker, JsonStream};
use crate::pubsub::{Bus, EventStream, IsRegistered, subscribe_events};
use crate::registry::Registry;

/// Serves `virtufin.Gateway`.
#[derive(Clone)]
pub(crate) struct GatewayService {
    pub(crate) registry: Arc<Registry>,
    pub(crate) invoker: Invoker,
    /// The gateway's own schema.
    pub(crate) own: Arc<Schema>,
    pub(crate) bus: Arc<dyn Bus>,
}

impl GatewayService {
    /// Returns the services that callers see behind a name: the gateway itself, or a backend.
    async fn services(&self, name: &str) -> Result<Vec<ServiceDescriptor>, Status> {
        if let Some(own) = self.own_service(name) {
            return Ok(vec![own]);
        }
        let backend = self.invoker.find_backend(name)?;
        Ok(self.invoker.schema(&backend).await?.schema().services(false))
    }

    async fn method(&self, service: &str, method: &str) -> Result<MethodDescriptor, Status> {
        if let Some(own) = self.own_service(service) {
            let name = method.rsplit(['.', '/']).next().unwrap_or(method);
            return own.methods().find(|candidate| candidate.name() == name).ok_or_else(|| {
                Status::not_found(format!("{} has no method {method:?}", own.full_name()))
            });
        }
        let backend = self.invoker.find_backend(service)?;
        self.invoker.method(&backend, method).await
    }

    /// A backend may be called `gateway`; only where none is, that name means the gateway.
    fn own_service(&self, name: &str) -> Option<ServiceDescriptor> {
        if self.registry.find(name).is_some() {
            return None;
        }
        let full_name = match name {
            "Gateway" | "State" | "Pubsub" | "Config" => format!("virtufin.{name}"),
            _ => name.to_owned(),
        };
        self.own.pool().get_service_by_name(&full_name)
    }
}

#[tonic::async_trait]
impl Gateway for GatewayService {
    async fn invoke(
        &self,
        request: Request<InvokeRequest>,
    ) -> Result<Response<InvokeResponse>, Status> {
        let (metadata, _, InvokeRequest { service, method, request_data }) = request.into_parts();
        let mut context = Context::new(&metadata);
        let outcome = self.invoker.invoke(&service, &method, request_data, &mut context).await;
        let response = match outcome {
            Ok(response_data) => InvokeResponse {
                success: true,
                status: "OK".into(),
                message: String::new(),
                response_data,
            },
            Err(failure) => {
                note(&service, &method, &failure);
                InvokeResponse {
                    success: false,
                    status: failure.word().into(),
                    message: failure.message().into(),
                    response_data: failure.details_json().into(),
                }
            }
        };
        Ok(answer(response, context))
    }

    async fn invoke_json(
        &self,
        request: Request<InvokeJsonRequest>,
    ) -> Result<Response<InvokeJsonResponse>, Status> {
        let (metadata, _, InvokeJsonRequest { service, method, request_data }) =
            request.into_parts();
        let mut context = Context::new(&metadata);
        let outcome =
            self.invoker.invoke_json(&service, &method, &request_data, &mut context).await;
        let response = match outcome {
            Ok(response_data) => InvokeJsonResponse {
                success: true,
                status: "OK".into(),
                message: String::new(),
                response_data,
            },
            Err(failure) => {
                note(&service, &method, &failure);
                InvokeJsonResponse {
                    success: false,
                    status: failure.word().into(),
                    message: failure.message().into(),
                    response_data: failure.details_json(),
                }
            }
        };
        Ok(answer(response, context))
    }

    type InvokeJsonStreamStream = JsonStream;

    async fn invoke_json_stream(
        &self,
        request: Request<InvokeJsonRequest>,
    ) -> Result<Response<JsonStream>, Status> {
        let (metadata, _, InvokeJsonRequest { service, method, request_data }) =
            request.into_parts();
        let mut context = Context::new(&metadata);
        let outcome =
            self.invoker.invoke_json_stream(&service, &method, &request_data, &mut context).await;
        match outcome {
            Ok(messages) => Ok(answer(messages, context)),
            Err(failure) => {
                note(&service, &method, &failure);
                Err(failure.into_status())
            }
        }
    }

    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let services =
            self.registry.backends().iter().map(|backend| backend.entry().name.clone()).collect();
        Ok(Response::new(ListServicesResponse { services }))
    }

    async fn list_methods(
        &self,
        request: Request<ListMethodsRequest>,
    ) -> Result<Response<ListMethodsResponse>, Status> {
        let services = self.services(&request.get_ref().service).await?;
        Ok(Response::new(ListMethodsResponse { methods: schema::methods(&services) }))
    }

    async fn get_method_schema(
        &self,
        request: Request<GetMethodSchemaRequest>,
    ) -> Result<Response<GetMethodSchemaResponse>, Status> {
        let GetMethodSchemaRequest { service, method, r#type } = request.into_inner();
        let method = self.method(&service, &method).await?;
        let schema = schema::message(&method, &r#type).ok_or_else(|| {
            Status::invalid_argument(format!("type is {type:?}, expected \"input\" or \"output\""))
        })?;
        Ok(Response::new(GetMethodSchemaResponse { schema: Some(schema) }))
    }

    type SubscribeStream = EventStream;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let registry = self.registry.clone();
        let registered: IsRegistered = Arc::new(move |name| registry.find(name).is_some());
        subscribe_events(&*self.bus, request.into_inner(), registered).await
    }
}

/// In-band failures are answers with an OK status: without this line, nobody would find them in the log.
fn note(service: &str, method: &str, failure: &Failure) {
    tracing::info!(
        service,
        method,
        status = failure.word(),
        message = failure.message(),
        "invocation failed"
    );
}

fn answer<T>(message: T, context: Context) -> Response<T> {
    let mut response = Response::new(message);
    *response.metadata_mut() = MetadataMap::from_headers(context.response_headers);
    response
}
