//! A backend that serves any `.proto` text: tonic underneath, messages in JSON.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::HeaderMap;
use oxgrpc_schema::prost_reflect::prost::Message as _;
use oxgrpc_schema::prost_reflect::{DynamicMessage, MethodDescriptor};
use oxgrpc_schema::{RawCodec, Schema, json};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// What most tests call.
pub(crate) const SHOP: &str = r#"
    syntax = "proto3";
    package shop;
    import "google/protobuf/any.proto";
    import "google/protobuf/timestamp.proto";
    service Shop {
        rpc Get(Item) returns (Item);
        rpc Fail(Item) returns (Item);
        rpc Wait(Item) returns (Item);
        rpc Watch(Item) returns (stream Item);
        rpc Upload(stream Item) returns (Item);
    }
    message Item {
        string name = 1;
        int64 count = 2;
        repeated Part parts = 3;
        map<string, double> prices = 4;
        Color color = 5;
        oneof kind { string text = 6; int32 number = 7; }
        google.protobuf.Timestamp since = 8;
        bytes data = 9;
        optional string note = 10;
        google.protobuf.Any extra = 11;
    }
    message Part { string part_name = 1; }
    message Reason { string why = 1; }
    enum Color { COLOR_UNSPECIFIED = 0; COLOR_RED = 1; }
"#;

/// What a method answers with.
pub(crate) type Answers = BoxStream<'static, Result<Value, Status>>;
type Answering = Pin<Box<dyn Future<Output = Result<Answers, Status>> + Send>>;
type Handler = Arc<dyn Fn(HeaderMap, Value) -> Answering + Send + Sync>;

/// A running backend; dropping it ends its connections.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// The headers of each call, newest last.
    pub(crate) calls: Arc<Mutex<Vec<HeaderMap>>>,
    stopping: CancellationToken,
}

impl Backend {
    /// Returns the headers of the newest call.
    pub(crate) fn last_call(&self) -> HeaderMap {
        self.calls.lock().unwrap().last().unwrap().clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// A backend that is not started yet.
pub(crate) struct Builder {
    schema: Schema,
    reflected: Option<Vec<u8>>,
    handlers: HashMap<String, Handler>,
    v1alpha_only: bool,
}

pub(crate) fn compile(name: &str, proto: &str) -> Vec<u8> {
    let mut resolver = protox::file::ChainFileResolver::new();
    resolver.add(Text(name.to_owned(), proto.to_owned()));
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(name).unwrap();
    compiler.encode_file_descriptor_set()
}

struct Text(String, String);

impl protox::file::FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        if name == self.0 {
            return protox::file::File::from_source(name, &self.1);
        }
        Err(protox::Error::file_not_found(name))
    }
}

impl Builder {
    pub(crate) fn new(proto: &str) -> Self {
        let set = compile("service.proto", proto);
        Self {
            schema: Schema::from_descriptor_set(&set).unwrap(),
            reflected: Some(set),
            handlers: HashMap::new(),
            v1alpha_only: false,
        }
    }

    /// Without reflection.
    pub(crate) fn silent(mut self) -> Self {
        self.reflected = None;
        self
    }

    /// With `grpc.reflection.v1alpha` alone.
    pub(crate) fn v1alpha_only(mut self) -> Self {
        self.v1alpha_only = true;
        self
    }

    /// Answers a method with one message.
    pub(crate) fn unary<F, R>(self, method: &str, handler: F) -> Self
    where
        F: Fn(HeaderMap, Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Status>> + Send + 'static,
    {
        self.stream(method, move |headers, request| {
            let answer = handler(headers, request);
            async move {
                let value = answer.await?;
                Ok(futures_util::stream::iter([Ok(value)]).boxed())
            }
        })
    }

    /// Answers a method with a stream.
    pub(crate) fn stream<F, R>(mut self, method: &str, handler: F) -> Self
    where
        F: Fn(HeaderMap, Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Answers, Status>> + Send + 'static,
    {
        let handler: Handler =
            Arc::new(move |headers, request| Box::pin(handler(headers, request)));
        self.handlers.insert(method.to_owned(), handler);
        self
    }

    pub(crate) async fn start(self) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.start_on(listener)
    }

    pub(crate) fn start_on(self, listener: TcpListener) -> Backend {
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut router = match &self.reflected {
            None => Router::new(),
            Some(set) => {
                let builder = || {
                    tonic_reflection::server::Builder::configure()
                        .register_encoded_file_descriptor_set(set)
                };
                let mut routes = Routes::builder();
                if !self.v1alpha_only {
                    routes.add_service(builder().build_v1().unwrap());
                }
                routes.add_service(builder().build_v1alpha().unwrap());
                // Routes answers what it does not know itself; here the methods below do.
                routes.routes().into_axum_router().reset_fallback()
            }
        };
        for (name, handler) in self.handlers {
            let method = self.schema.find_method(&name).unwrap();
            let path = oxgrpc_schema::path(&method).to_string();
            let service = Method { method, handler, calls: calls.clone() };
            router = router.route(
                &path,
                axum::routing::post(move |request: axum::extract::Request| {
                    let service = service.clone();
                    async move {
                        let mut grpc = tonic::server::Grpc::new(RawCodec);
                        grpc.streaming(service, request).await.map(axum::body::Body::new)
                    }
                }),
            );
        }
        let unimplemented = || async { Status::unimplemented("").into_http::<axum::body::Body>() };
        let router = router.fallback(unimplemented);
        let stopping = CancellationToken::new();
        let stopped = stopping.clone().cancelled_owned();
        tokio::spawn(async move {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_routes(Routes::from(router))
                .serve_with_incoming_shutdown(incoming, stopped)
                .await
                .unwrap();
        });
        Backend { address, calls, stopping }
    }
}

#[derive(Clone)]
struct Method {
    method: MethodDescriptor,
    handler: Handler,
    calls: Arc<Mutex<Vec<HeaderMap>>>,
}

impl tonic::server::StreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (metadata, _, mut messages) = request.into_parts();
            let headers = metadata.into_headers();
            this.calls.lock().unwrap().push(headers.clone());
            let octets = messages.message().await?.unwrap_or_default();
            let message = DynamicMessage::decode(this.method.input(), octets).unwrap();
            let request = json::to_value(&message, &json::PrintOptions::default()).unwrap();
            let answers = (this.handler)(headers, request).await?;
            let output = this.method.output();
            let answers = answers.map(move |answer| {
                let text = answer?.to_string();
                Ok(json::parse(output.clone(), &text).unwrap().encode_to_vec().into())
            });
            let mut response = Response::new(answers.boxed());
            response.metadata_mut().insert("x-backend", "shop".parse().unwrap());
            Ok(response)
        })
    }
}
