//! The part of a gateway that backends use, with its state in memory, and clients of it.

#![allow(dead_code, reason = "each test file uses its own part")]

use oxgrpc_backends::{GatewayAddress, Options};
use oxgrpc_gateway::config::Storage;
use oxgrpc_gateway::pubsub::{self, PubsubService};
use oxgrpc_gateway::state::{self, StateService};
use oxgrpc_proto::virtufin::pubsub_client::PubsubClient;
use oxgrpc_proto::virtufin::pubsub_server::PubsubServer;
use oxgrpc_proto::virtufin::state_server::StateServer;
use oxgrpc_proto::virtufin::{PublishRequest, PubsubSubscribeRequest, PubsubSubscribeResponse};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Streaming;
use tonic::transport::{Channel, Server};

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Serves state and pub/sub until it is dropped.
pub(crate) struct Gateway {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Gateway {
    pub(crate) fn grpc_address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) async fn gateway() -> Gateway {
    let store = state::open(&Storage::Ephemeral).await.expect("a store");
    let bus = pubsub::open(&Storage::Ephemeral).await.expect("a bus");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Server::builder()
        .add_service(StateServer::new(StateService::new(store, bus.clone())))
        .add_service(PubsubServer::new(PubsubService::new(bus)));
    let serving = tokio::spawn(async move {
        router.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("served");
    });
    Gateway { address, serving }
}

pub(crate) fn options(gateway: SocketAddr) -> Options {
    Options {
        listen: ([127, 0, 0, 1], 0).into(),
        gateway: GatewayAddress {
            uri: format!("http://{gateway}"),
            api_key: None,
            authority: None,
        },
        api_keys: Vec::new(),
    }
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("a connection")
}

/// The events of a topic from now on.
pub(crate) async fn subscribe(
    gateway: SocketAddr,
    topic: &str,
) -> Streaming<PubsubSubscribeResponse> {
    let mut client = PubsubClient::new(channel(gateway).await);
    let request = PubsubSubscribeRequest { topic: topic.into() };
    client.subscribe(request).await.expect("a subscription").into_inner()
}

pub(crate) async fn next(
    events: &mut Streaming<PubsubSubscribeResponse>,
) -> PubsubSubscribeResponse {
    let next = tokio::time::timeout(PATIENCE, events.message()).await;
    next.expect("in time").expect("a stream").expect("an event")
}

pub(crate) async fn publish(
    gateway: SocketAddr,
    topic: &str,
    data: &str,
    metadata: &[(&str, &str)],
) {
    let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let data = data.as_bytes().to_vec().into();
    let request = PublishRequest { topic: topic.into(), data, metadata: metadata.collect() };
    let mut client = PubsubClient::new(channel(gateway).await);
    client.publish_event(request).await.expect("published");
}
