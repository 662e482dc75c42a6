//! A running gateway: what is started, in which order, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use http::{HeaderName, HeaderValue, Method};
use oxgrpc_proto::virtufin::config_server::ConfigServer;
use oxgrpc_proto::virtufin::gateway_server::GatewayServer;
use oxgrpc_proto::virtufin::pubsub_server::PubsubServer;
use oxgrpc_proto::virtufin::state_server::StateServer;
use oxgrpc_schema::Schema;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::pb::v1::server_reflection_server::ServerReflectionServer;
use tonic_reflection::pb::v1alpha::server_reflection_server::ServerReflectionServer as ServerReflectionAlphaServer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::backend::HostOptions;
use crate::config::ApiKey;
use crate::console;
use crate::dapr::{Components, Dapr};
use crate::invoke::Invoker;
use crate::metrics::Metrics;
use crate::pubsub::{self, Bus, PubsubService};
use crate::registry::{self, Registry};
use crate::rest::{self, Rest, Transcoder};
use crate::serve::keys;
use crate::serve::observe::{self, Observer};
use crate::serve::origins::{self, Origins};
use crate::serve::{Ending, Incoming, bind, incoming, server_config};
use crate::services::config::ConfigView;
use crate::services::gateway::GatewayService;
use crate::services::reflection::Reflection;
use crate::state::{self, StateService, Store};
use crate::{Config, StartError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last answers may take to be sent.
const FAREWELL: Duration = Duration::from_secs(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// A running gateway. [`Gateway::stop`] ends it in order; dropping it ends it at once.
#[derive(Debug)]
pub struct Gateway {
    http: SocketAddr,
    grpc: SocketAddr,
    registry: Arc<Registry>,
    grace: Duration,
    ending: Ending,
    health: HealthReporter,
    servers: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Starts a gateway: when this returns, both ports answer.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        check_exposure(&config)?;
        let (grpc_tls, http_tls) = match &config.tls {
            None => (None, None),
            Some(tls) => (
                Some(server_config(tls, &[b"h2"])?),
                Some(server_config(tls, &[b"h2", b"http/1.1"])?),
            ),
        };
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

        let ending = Ending::default();
        let stopping = ending.stopping.clone();
        let store = state::open(&config.storage)
            .await
            .map_err(|error| StartError::Storage(error.to_string()))?;
        let bus = pubsub::open(&config.storage)
            .await
            .map_err(|error| StartError::Storage(error.to_string()))?;
        registry.register_keys(&*store).await;
        let services = Services::new(&config, &registry, store, bus);
        let observer =
            |port| Observer { metrics: services.metrics.clone(), port, ending: ending.clone() };
        let grpc_router = doors(
            services.grpc.clone().into_axum_router(),
            &config,
            observer("grpc"),
            Origins::new(&config, grpc_address, false),
        );
        let console =
            console::router(services.invoker.clone(), services.registry.clone(), grpc_address);
        let rest = rest::router(
            services.rest(),
            services.dapr.http().merge(console),
            &services.grpc,
            config.max_message_bytes,
        );
        let http_router =
            doors(rest, &config, observer("http"), Origins::new(&config, http_address, true));
        let servers = vec![
            serve(
                "gRPC",
                &config,
                grpc_router,
                incoming(grpc, grpc_tls, ending.clone()),
                &stopping,
            ),
            serve(
                "HTTP",
                &config,
                http_router,
                incoming(http, http_tls, ending.clone()),
                &stopping,
            ),
            tokio::spawn(registry::watch(
                registry.clone(),
                services.store.clone(),
                stopping.clone(),
            )),
        ];
        for service in SERVICES {
            services.health.set_service_status(service, ServingStatus::Serving).await;
        }
        Ok(Self {
            http: http_address,
            grpc: grpc_address,
            registry,
            grace: config.grace,
            ending,
            health: services.health,
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
        for service in SERVICES {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        self.ending.stopping.cancel();
        let mut ended = futures_util::future::join_all(std::mem::take(&mut self.servers));
        if tokio::time::timeout(self.grace, &mut ended).await.is_ok() {
            return;
        }
        tracing::warn!(grace = ?self.grace, "calls outlast the grace: they are ended");
        self.ending.expired.cancel();
        if tokio::time::timeout(FAREWELL, &mut ended).await.is_err() {
            self.ending.cut.cancel();
            ended.await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.ending.stopping.cancel();
        self.ending.cut.cancel();
        for server in &self.servers {
            server.abort();
        }
    }
}

/// Refuses an address that other machines reach, where a backend runs the code that it is given and nobody is asked who they
/// are.
fn check_exposure(config: &Config) -> Result<(), StartError> {
    let mutual = config.tls.as_ref().is_some_and(|tls| tls.client_authority.is_some());
    if !config.runs_code || mutual || !config.api_keys.is_empty() {
        return Ok(());
    }
    match [config.http, config.grpc].into_iter().find(|address| !address.ip().is_loopback()) {
        Some(address) => Err(StartError::Exposed { address }),
        None => Ok(()),
    }
}

/// Serves a router on one port until the gateway stops.
fn serve(
    name: &'static str,
    config: &Config,
    router: Router,
    connections: Incoming,
    stopping: &CancellationToken,
) -> JoinHandle<()> {
    let server = Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(config.max_streams_per_connection)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(connections, stopping.clone().cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the {name} server failed");
        }
    })
}

/// Puts what every request passes around a router; the last layer is the outermost.
fn doors(router: Router, config: &Config, observer: Observer, origins: Origins) -> Router {
    let keys: Arc<[ApiKey]> = config.api_keys.clone().into();
    router
        .layer(from_fn_with_state(keys, keys::check))
        .layer(cors(&config.cors_origins))
        .layer(from_fn_with_state(Arc::new(origins), origins::check))
        .layer(from_fn_with_state(observer, observe::observe))
}

/// CORS for the origins that are configured: none unless there are some.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok()).collect();
    if origins.is_empty() {
        return CorsLayer::new();
    }
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(600))
}

/// What a page's script may read of a response.
const EXPOSED: [&str; 6] = [
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "subscription-id",
    "x-request-id",
    "etag",
];

/// The gRPC services, as both ports serve them.
struct Services {
    grpc: Routes,
    own: Arc<Schema>,
    invoker: Invoker,
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    dapr: Dapr,
    metrics: Arc<Metrics>,
    health: HealthReporter,
    limit: usize,
}

/// What the health service knows by name; the empty name is the gateway as a whole.
const SERVICES: [&str; 6] = [
    "",
    "virtufin.Gateway",
    "virtufin.State",
    "virtufin.Pubsub",
    "virtufin.Config",
    "dapr.proto.runtime.v1.Dapr",
];

impl Services {
    fn new(
        config: &Config,
        registry: &Arc<Registry>,
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
    ) -> Self {
        let limit = config.max_message_bytes;
        // Generated from our own files, so that it decodes.
        let own =
            Arc::new(Schema::from_descriptor_set(oxgrpc_proto::DESCRIPTORS).unwrap_or_default());
        let invoker = Invoker::new(registry.clone(), config.default_timeout, limit);
        let gateway = GatewayService {
            registry: registry.clone(),
            invoker: invoker.clone(),
            own: own.clone(),
            bus: bus.clone(),
        };
        let state = StateService::new(store.clone(), bus.clone());
        let pubsub = PubsubService::new(bus.clone());
        let dapr = Dapr::new(store.clone(), bus.clone(), Components::default());
        let reflection = Reflection { own: own.clone(), registry: registry.clone() };
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut routes = Routes::builder();
        routes
            .add_service(
                GatewayServer::new(gateway)
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(limit),
            )
            .add_service(
                StateServer::new(state)
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(limit),
            )
            .add_service(
                PubsubServer::new(pubsub)
                    .max_decoding_message_size(limit)
                    .max_encoding_message_size(limit),
            )
            .add_service(dapr.grpc().max_decoding_message_size(limit))
            .add_service(ConfigServer::new(ConfigView(registry.clone())))
            .add_service(health_service)
            .add_service(ServerReflectionServer::new(reflection.clone()))
            .add_service(ServerReflectionAlphaServer::new(reflection));
        let metrics = Metrics::new(&own);
        let registry = registry.clone();
        Self {
            grpc: routes.routes(),
            own,
            invoker,
            registry,
            store,
            bus,
            dapr,
            metrics,
            health,
            limit,
        }
    }

    fn rest(&self) -> Rest {
        Rest {
            transcoder: Transcoder::new(self.own.clone(), self.grpc.clone(), self.limit),
            invoker: self.invoker.clone(),
            registry: self.registry.clone(),
            store: self.store.clone(),
            bus: self.bus.clone(),
            metrics: self.metrics.clone(),
        }
    }
}
