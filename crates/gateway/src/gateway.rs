//! A running gateway: what is started, in which order, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use oxgrpc_proto::virtufin::config_server::ConfigServer;
use oxgrpc_proto::virtufin::gateway_server::GatewayServer;
use oxgrpc_schema::Schema;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_reflection::pb::v1::server_reflection_server::ServerReflectionServer;
use tonic_reflection::pb::v1alpha::server_reflection_server::ServerReflectionServer as ServerReflectionAlphaServer;

use crate::backend::HostOptions;
use crate::invoke::Invoker;
use crate::registry::{self, Registry};
use crate::serve::{bind, incoming};
use crate::services::config::ConfigView;
use crate::services::gateway::GatewayService;
use crate::services::reflection::Reflection;
use crate::{Config, StartError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A running gateway. [`Gateway::stop`] ends it in order; dropping it ends it at once.
#[derive(Debug)]
pub struct Gateway {
    http: SocketAddr,
    grpc: SocketAddr,
    registry: Arc<Registry>,
    grace: Duration,
    stopping: CancellationToken,
    servers: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Starts a gateway: when this returns, both ports answer.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let options = HostOptions {
            connect_timeout: CONNECT_TIMEOUT,
            reflection_timeout: REFLECTION_TIMEOUT,
        };
        let registry = Registry::open(config.services_file.clone(), options).await?;
        let grpc = bind(config.grpc, "--grpc-port").await?;
        let http = bind(config.http, "--http-port").await?;
        let listening =
            |error| StartError::Listen { address: config.grpc, flag: "--grpc-port", error };
        let grpc_address = grpc.local_addr().map_err(listening)?;
        let http_address = http.local_addr().map_err(listening)?;

        let stopping = CancellationToken::new();
        let routes = routes(&config, &registry);
        let server = Server::builder()
            .max_concurrent_streams(config.max_streams_per_connection)
            .http2_keepalive_interval(Some(Duration::from_secs(60)))
            .http2_keepalive_timeout(Some(Duration::from_secs(30)))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                incoming(grpc, None, stopping.clone()),
                stopping.clone().cancelled_owned(),
            );
        let servers = vec![
            tokio::spawn(async move {
                if let Err(error) = server.await {
                    tracing::error!(%error, "the gRPC server failed");
                }
            }),
            tokio::spawn(registry::watch(registry.clone(), stopping.clone())),
        ];
        Ok(Self {
            http: http_address,
            grpc: grpc_address,
            registry,
            grace: config.grace,
            stopping,
            servers,
        })
    }

    /// Returns where REST, gRPC-Web and the console are served.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Returns where gRPC is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Returns the registered backends.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Accepts no further calls, and returns when the running ones have ended or the grace is over.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        let deadline = tokio::time::Instant::now() + self.grace;
        for mut server in std::mem::take(&mut self.servers) {
            if tokio::time::timeout_at(deadline, &mut server).await.is_err() {
                server.abort();
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stopping.cancel();
        for server in &self.servers {
            server.abort();
        }
    }
}

/// The gRPC services, as both ports serve them.
fn routes(config: &Config, registry: &Arc<Registry>) -> Routes {
    let limit = config.max_message_bytes;
    // Generated from our own files, so that it decodes.
    let own = Arc::new(Schema::from_descriptor_set(oxgrpc_proto::DESCRIPTORS).unwrap_or_default());
    let invoker = Invoker::new(registry.clone(), config.default_timeout, limit);
    let gateway = GatewayService { registry: registry.clone(), invoker, own: own.clone() };
    let reflection = Reflection { own, registry: registry.clone() };
    let (health, health_service) = tonic_health::server::health_reporter();
    drop(health);
    let mut routes = Routes::builder();
    routes
        .add_service(
            GatewayServer::new(gateway)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit),
        )
        .add_service(ConfigServer::new(ConfigView(registry.clone())))
        .add_service(health_service)
        .add_service(ServerReflectionServer::new(reflection.clone()))
        .add_service(ServerReflectionAlphaServer::new(reflection));
    routes.routes()
}
