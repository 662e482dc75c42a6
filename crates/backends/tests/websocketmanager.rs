//! WebSocket connections bridged to topics, on a real gateway and with real WebSocket servers.

mod common;

use common::{Gateway, PATIENCE, channel, gateway, next, options, subscribe};
use futures_util::{SinkExt as _, StreamExt as _};
use oxgrpc_backends::Backend;
use oxgrpc_backends::websocketmanager::{self, WebSocketManagerOptions};
use oxgrpc_proto::virtufin::web_socket_manager_client::WebSocketManagerClient;
use oxgrpc_proto::virtufin::{
    ConnectRequest, DisconnectRequest, ListConnectionsRequest, SendRawRequest, SendRequest,
    StartPublishRequest, StopPublishRequest,
};
use serde_json::Value;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tonic::Code;
use tonic::transport::Channel;

struct Platform {
    gateway: Gateway,
    backend: Backend,
    client: WebSocketManagerClient<Channel>,
}

impl Platform {
    async fn start(own: WebSocketManagerOptions) -> Self {
        let gateway = gateway().await;
        let backend = websocketmanager::start(&options(gateway.grpc_address()), own).await;
        let backend = backend.expect("a WebSocketManager");
        let client = WebSocketManagerClient::new(channel(backend.address()).await);
        Self { gateway, backend, client }
    }

    async fn connect(&mut self, url: &str, auto_reconnect: bool) -> Result<String, tonic::Status> {
        let request = ConnectRequest { url: url.into(), auto_reconnect };
        Ok(self.client.connect(request).await?.into_inner().id)
    }

    async fn statuses(&mut self) -> Vec<String> {
        let list = self.client.list(ListConnectionsRequest {}).await.expect("a list");
        list.into_inner().connections.into_iter().map(|connection| connection.status).collect()
    }

    async fn send_raw(&mut self, id: &str, message: &str, content_type: &str) {
        let request = SendRawRequest {
            id: id.into(),
            message: message.as_bytes().to_vec().into(),
            content_type: content_type.into(),
        };
        self.client.send_raw(request).await.expect("sent");
    }

    async fn stop(self) {
        drop(self.client);
        self.backend.stop().await;
    }
}

/// Answers every frame with the same frame; a text frame `close` ends the connection.
async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        let ends = match &message {
            Message::Text(text) if text.as_str() == "close" => true,
            Message::Text(_) | Message::Binary(_) => socket.send(message).await.is_err(),
            _ => false,
        };
        if ends {
            break;
        }
    }
    let _ = socket.close(None).await;
}

/// An echo server, until it is aborted.
async fn server(tls: Option<TlsAcceptor>) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => echo(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            echo(stream).await;
                        }
                    }
                }
            });
        }
    });
    (port, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn received_frames_are_published() {
    let (port, serving) = server(None).await;
    let mut platform = Platform::start(WebSocketManagerOptions::default()).await;
    let mut events = subscribe(platform.gateway.grpc_address(), "feed").await;
    let url = format!("ws://127.0.0.1:{port}/feed");
    let id = platform.connect(&url, false).await.expect("a connection");
    assert_eq!(platform.statuses().await, ["CONNECTED"]);
    let start = StartPublishRequest { id: id.clone(), topic: "feed".into() };
    platform.client.start_publish(start).await.expect("publishing");
    platform.send_raw(&id, "hello", "text/plain").await;
    platform.send_raw(&id, "\0\u{1}", "application/octet-stream").await;
    for (payload, content_type) in [("hello", "text/plain"), ("AAE=", "application/octet-stream")] {
        let envelope: Value = serde_json::from_slice(&next(&mut events).await.data).expect("JSON");
        assert_eq!(envelope["Payload"], payload);
        assert_eq!(envelope["ContentType"], content_type);
        assert_eq!(envelope["WebSocketId"], *id);
        assert_eq!(envelope["WebSocketUrl"], *url);
    }
    platform.client.stop_publish(StopPublishRequest { id: id.clone() }).await.expect("stopped");
    platform.client.disconnect(DisconnectRequest { id: id.clone() }).await.expect("disconnected");
    assert!(platform.statuses().await.is_empty());
    let gone = platform.client.disconnect(DisconnectRequest { id }).await.expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
    platform.stop().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_finds_its_answer_among_others() {
    let (port, serving) = server(None).await;
    let mut platform = Platform::start(WebSocketManagerOptions::default()).await;
    let id = platform.connect(&format!("ws://127.0.0.1:{port}"), false).await.expect("connected");
    let asked = (0..20_u8).map(|n| {
        let mut client = platform.client.clone();
        let request =
            SendRequest { id: id.clone(), message: vec![n].into(), ..SendRequest::default() };
        async move { client.send(request).await.expect("an answer").into_inner().response }
    });
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().enumerate().all(|(n, answer)| answer[..] == [n as u8]));
    platform.stop().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_an_answer_ends_at_its_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let silent = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        while let Some(Ok(_)) = socket.next().await {}
    });
    let mut platform = Platform::start(WebSocketManagerOptions::default()).await;
    let id = platform.connect(&url, false).await.expect("connected");
    let request = SendRequest { id, timeout_ms: 50, ..SendRequest::default() };
    let status = platform.client.send(request).await.expect_err("no answer");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    platform.stop().await;
    silent.await.expect("the server saw the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again_if_it_should_be() {
    let (port, serving) = server(None).await;
    let mut platform = Platform::start(WebSocketManagerOptions::default()).await;
    let topic = websocketmanager::STATUS_TOPIC;
    let mut events = subscribe(platform.gateway.grpc_address(), topic).await;
    let url = format!("ws://127.0.0.1:{port}");
    let id = platform.connect(&url, true).await.expect("connected");
    let kind = |event: &oxgrpc_proto::virtufin::PubsubSubscribeResponse| {
        event.metadata["ce-type"].rsplit('.').next().unwrap_or_default().to_owned()
    };
    assert_eq!(kind(&next(&mut events).await), "connected");
    platform.send_raw(&id, "close", "text/plain").await;
    assert_eq!(kind(&next(&mut events).await), "reconnecting");
    assert_eq!(kind(&next(&mut events).await), "connected");
    assert_eq!(platform.statuses().await, ["CONNECTED"]);
    let once = platform.connect(&url, false).await.expect("connected");
    assert_eq!(kind(&next(&mut events).await), "connected");
    platform.send_raw(&once, "close", "text/plain").await;
    assert_eq!(kind(&next(&mut events).await), "disconnected");
    let request = SendRawRequest { id: once, ..SendRawRequest::default() };
    let status = platform.client.send_raw(request).await.expect_err("not connected");
    assert_eq!(status.code(), Code::Unavailable);
    platform.stop().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_against_the_authority_that_is_given() {
    let (authority, tls) = certificates();
    let (port, serving) = server(Some(tls)).await;
    let url = format!("wss://localhost:{port}");
    let mut stranger = Platform::start(WebSocketManagerOptions::default()).await;
    let status = stranger.connect(&url, false).await.expect_err("unknown authority");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("certificate"), "{}", status.message());
    stranger.stop().await;
    let own = WebSocketManagerOptions {
        authority: Some(authority.into_bytes()),
        ..WebSocketManagerOptions::default()
    };
    let mut platform = Platform::start(own).await;
    platform.connect(&url, false).await.expect("a connection");
    platform.stop().await;
    serving.abort();
}

/// An authority, PEM, and a server of `localhost` that it vouches for.
fn certificates() -> (String, TlsAcceptor) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("an authority");
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned()];
    let own = CertificateParams::new(names).expect("parameters").signed_by(&own_key, &issuer);
    let chain = vec![own.expect("a certificate").der().clone()];
    let key = rustls::pki_types::PrivateKeyDer::try_from(own_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_must_make_sense() {
    let own = WebSocketManagerOptions { max_connections: 1, ..WebSocketManagerOptions::default() };
    let mut platform = Platform::start(own).await;
    for url in ["", "http://localhost", "ws://", "nonsense"] {
        let status = platform.connect(url, false).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{url:?}");
    }
    // A port where nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let connecting = platform.connect(&url, false);
    let refused = tokio::time::timeout(PATIENCE, connecting).await.expect("in time");
    assert_eq!(refused.expect_err("refused").code(), Code::Unavailable);
    assert!(platform.statuses().await.is_empty());
    let (port, serving) = server(None).await;
    let url = format!("ws://127.0.0.1:{port}");
    let id = platform.connect(&url, false).await.expect("connected");
    let full = platform.connect(&url, false).await.expect_err("full");
    assert_eq!(full.code(), Code::ResourceExhausted);
    let start = StartPublishRequest { id: id.clone(), topic: String::new() };
    let status = platform.client.start_publish(start).await.expect_err("no topic");
    assert_eq!(status.code(), Code::InvalidArgument);
    let request =
        SendRawRequest { id, message: vec![0xff].into(), content_type: "application/json".into() };
    let status = platform.client.send_raw(request).await.expect_err("no text");
    assert_eq!(status.code(), Code::InvalidArgument);
    platform.stop().await;
    serving.abort();
}
