//! A gRPC server for the tests: all four kinds of calls, with reflection or without, in plaintext or over TLS.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// `notes.Note`, as far as the server looks at it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Note {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    #[prost(uint32, tag = "2")]
    pub(crate) times: u32,
}

/// `notes.extra.Reason`.
#[derive(Clone, PartialEq, Message)]
struct Reason {
    #[prost(string, tag = "1")]
    why: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

#[derive(Clone, Copy, Debug)]
struct Notes;

impl NamedService for Notes {
    const NAME: &'static str = "notes.Notes";
}

type NoteStream = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

impl tower::Service<http::Request<Body>> for Notes {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Note, Note>::default());
            Ok(match request.uri().path().rsplit('/').next().unwrap_or_default() {
                "Echo" => grpc.unary(service_fn(echo), request).await,
                "Fail" => grpc.unary(service_fn(fail), request).await,
                "Repeat" => grpc.server_streaming(service_fn(repeat), request).await,
                "Wait" => grpc.server_streaming(service_fn(wait), request).await,
                "Gather" => grpc.client_streaming(service_fn(gather), request).await,
                "Chat" => grpc.streaming(service_fn(chat), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A permit for each call that stalls and was asked to announce it.
static STALLING: Semaphore = Semaphore::const_new(0);

async fn echo(request: Request<Note>) -> Result<Response<Note>, Status> {
    let got = request.metadata().get("x-token").cloned();
    if let Some(stall_ms) = request.metadata().get("x-stall-ms") {
        let stall_ms = stall_ms.to_str().unwrap().parse().unwrap();
        if request.metadata().contains_key("x-announce") {
            STALLING.add_permits(1);
        }
        tokio::time::sleep(Duration::from_millis(stall_ms)).await;
    }
    let mut response = Response::new(request.into_inner());
    if let Some(got) = got {
        response.metadata_mut().insert("x-got", got);
    }
    Ok(response)
}

async fn fail(request: Request<Note>) -> Result<Response<Note>, Status> {
    let note = request.into_inner();
    let info = ErrorInfo { reason: "TOO_LATE".into(), domain: "notes".into() };
    let details = vec![
        Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
            value: info.encode_to_vec(),
        },
        Any {
            type_url: "type.googleapis.com/notes.extra.Reason".into(),
            value: Reason { why: "it rains".into() }.encode_to_vec(),
        },
        Any { type_url: "type.googleapis.com/notes.Nobody".into(), value: vec![1, 2, 3] },
    ];
    let code = i32::try_from(note.times).unwrap();
    let status = RpcStatus { code, message: note.text.clone(), details };
    Err(Status::with_details(Code::from(code), note.text, status.encode_to_vec().into()))
}

async fn repeat(request: Request<Note>) -> Result<Response<NoteStream>, Status> {
    let note = request.into_inner();
    let notes = (0..note.times).map(move |times| Ok(Note { text: note.text.clone(), times }));
    Ok(Response::new(Box::pin(tokio_stream::iter(notes.collect::<Vec<_>>()))))
}

async fn wait(request: Request<Note>) -> Result<Response<NoteStream>, Status> {
    let first = tokio_stream::once(Ok(request.into_inner()));
    Ok(Response::new(Box::pin(first.chain(tokio_stream::pending::<Result<Note, Status>>()))))
}

async fn gather(request: Request<Streaming<Note>>) -> Result<Response<Note>, Status> {
    let mut notes = request.into_inner();
    let mut sum = Note::default();
    while let Some(note) = notes.message().await? {
        sum.text.push_str(&note.text);
        sum.times += 1;
    }
    Ok(Response::new(sum))
}

async fn chat(request: Request<Streaming<Note>>) -> Result<Response<NoteStream>, Status> {
    let mut notes = request.into_inner();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(Some(note)) = notes.message().await {
            if sender.send(Ok(note)).await.is_err() {
                break;
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// How the server is set up.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) reflection: bool,
    pub(crate) tls: Option<ServerTlsConfig>,
}

/// A running server; it stops when it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// `127.0.0.1:PORT`.
    pub(crate) fn at(&self) -> String {
        self.address.to_string()
    }

    /// `localhost:PORT`, the name in the certificate.
    pub(crate) fn at_localhost(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}

/// Waits for a call with the headers `x-stall-ms` and `x-announce`.
pub(crate) async fn stalled() {
    STALLING.acquire().await.unwrap().forget();
}

/// Where the tests' .proto files lie.
pub(crate) fn protos() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/command_line/protos"))
}

/// The descriptors of the tests' .proto files.
pub(crate) fn descriptors() -> Vec<u8> {
    protox::compile(["notes.proto", "extra/reason.proto"], [protos()]).unwrap().encode_to_vec()
}

/// Starts a server on a free port.
pub(crate) async fn serve(setup: Setup) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::builder();
    if let Some(tls) = setup.tls {
        server = server.tls_config(tls).unwrap();
    }
    let descriptors = descriptors();
    let reflection = setup.reflection.then(|| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(&descriptors)
            .build_v1()
            .unwrap()
    });
    let router = server.add_service(Notes).add_optional_service(reflection);
    let incoming = TcpIncoming::from(listener);
    let task = tokio::spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
    Running { address, task }
}

/// A plaintext server with reflection.
pub(crate) async fn plain() -> Running {
    serve(Setup { reflection: true, ..Setup::default() }).await
}

/// Something that is no gRPC server: each connection is handled by `answer`.
pub(crate) async fn pretend<F, Fut>(answer: F) -> Running
where
    F: Fn(tokio::net::TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = TcpListenerStream::new(listener);
    let task = tokio::spawn(async move {
        while let Some(Ok(stream)) = incoming.next().await {
            tokio::spawn(answer(stream));
        }
    });
    Running { address, task }
}
