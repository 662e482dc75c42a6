//! What grpc's doc/interop-test-descriptions.md asks of a server.

use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::Failure;
use crate::echo::Echo;
use crate::payload;
use crate::proto::test_service_server::{TestService, TestServiceServer};
use crate::proto::{
    EchoStatus, Empty, ResponseParameters, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
    StreamingOutputCallResponse,
};

pub(crate) async fn run(identity: Option<(&str, &str)>) -> Result<(), Failure> {
    let mut server = Server::builder().layer(tower_layer::layer_fn(Echo));
    if let Some((cert, key)) = identity {
        let identity = Identity::from_pem(std::fs::read(cert)?, std::fs::read(key)?);
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let connections = TcpListenerStream::new(listener);
    server.add_service(TestServiceServer::new(Service)).serve_with_incoming(connections).await?;
    Ok(())
}

type Responses = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

struct Service;

#[tonic::async_trait]
impl TestService for Service {
    type FullDuplexCallStream = Responses;
    type StreamingOutputCallStream = Responses;

    async fn empty_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        let request = request.into_inner();
        asked_for(request.response_status)?;
        Ok(Response::new(SimpleResponse { payload: payload(request.response_size) }))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let mut requests = request.into_inner();
        let mut total = 0;
        while let Some(request) = requests.message().await? {
            total += request.payload.map_or(0, |payload| payload.body.len());
        }
        let total =
            i32::try_from(total).map_err(|_| Status::out_of_range("more than the field holds"))?;
        Ok(Response::new(StreamingInputCallResponse { aggregated_payload_size: total }))
    }

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Responses>, Status> {
        let responses = tokio_stream::iter(request.into_inner().response_parameters).then(respond);
        Ok(Response::new(Box::pin(responses.map(Ok))))
    }

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (responses, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(status) = answer(request.into_inner(), &responses).await {
                // A client that is gone wants no status either.
                let _ = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn unimplemented_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("no server has it"))
    }
}

async fn answer(
    mut requests: Streaming<StreamingOutputCallRequest>,
    responses: &mpsc::Sender<Result<StreamingOutputCallResponse, Status>>,
) -> Result<(), Status> {
    while let Some(request) = requests.message().await? {
        asked_for(request.response_status)?;
        for parameters in request.response_parameters {
            let response = respond(parameters).await;
            responses
                .send(Ok(response))
                .await
                .map_err(|_| Status::cancelled("the client is gone"))?;
        }
    }
    Ok(())
}

async fn respond(parameters: ResponseParameters) -> StreamingOutputCallResponse {
    let interval = u64::try_from(parameters.interval_us).unwrap_or(0);
    tokio::time::sleep(Duration::from_micros(interval)).await;
    StreamingOutputCallResponse { payload: payload(parameters.size) }
}

/// The status that the client asked for.
fn asked_for(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(EchoStatus { code, message }) if code != 0 => {
            Err(Status::new(Code::from_i32(code), message))
        }
        _ => Ok(()),
    }
}
