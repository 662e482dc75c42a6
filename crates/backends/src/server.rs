//! A backend as a gRPC server: its service, health and reflection on a port, until it is stopped.

use crate::platform::GatewayAddress;
use std::convert::Infallible;
use std::net::SocketAddr;
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::service::Interceptor;
use tonic::transport::Server;
use tonic::{Request, Status};

/// What every backend is started with.
#[derive(Clone)]
pub struct Options {
    /// Where the backend listens. Port 0 takes a free port.
    pub listen: SocketAddr,
    /// The gateway that keeps the backend's state and carries its events.
    pub gateway: GatewayAddress,
    /// The values of `x-api-key` that are accepted; empty means that no key is asked for. Health is exempt.
    pub api_keys: Vec<String>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Options");
        fields.field("listen", &self.listen).field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// Why a backend could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or is none of this machine's.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The gateway's address is malformed.
    #[error("the gateway's address {uri:?} cannot be used: {error}")]
    Gateway {
        /// The address.
        uri: String,
        /// Why not.
        error: tonic::transport::Error,
    },
    /// Something else that the backend needs is not there.
    #[error("{0}")]
    Setup(String),
}

/// A backend that serves.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Backend {
    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting calls, ends what the backend runs, and returns once all of it has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "a backend did not end in order");
        }
    }

    /// Serves `service` until `stop` is cancelled, and runs `ended` after the last call.
    pub(crate) async fn serve<S>(
        options: &Options,
        service: S,
        stop: CancellationToken,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, StartError>
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let address = options.listen;
        let listen = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) =
            listen.await.map_err(|error| StartError::Listen { address, error })?;
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<S>().await;
        let keys = Keys(options.api_keys.clone());
        let guarded = tonic::service::interceptor::InterceptedService::new(service, keys);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(oxgrpc_proto::DESCRIPTORS)
                .with_service_name(S::NAME)
        };
        let setup = |error: tonic_reflection::server::Error| StartError::Setup(error.to_string());
        let router = Server::builder()
            .add_service(health_service)
            .add_service(reflection().build_v1().map_err(setup)?)
            .add_service(reflection().build_v1alpha().map_err(setup)?)
            .add_service(guarded);
        let until = stop.clone();
        let serving = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let stopped = until.cancelled_owned();
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(%error, "a backend stopped serving");
            }
            ended.await;
        });
        Ok(Self { address, stop, serving })
    }
}

/// Checks `x-api-key`.
#[derive(Clone)]
struct Keys(Vec<String>);

impl Interceptor for Keys {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("x-api-key").map_or(&[][..], |key| key.as_bytes());
        // Every key is compared, in constant time, whether or not one before it matched.
        let matches = |any: subtle::Choice, key: &String| any | key.as_bytes().ct_eq(given);
        let is_known = self.0.iter().fold(subtle::Choice::from(0), matches);
        match self.0.is_empty() || bool::from(is_known) {
            true => Ok(request),
            false => Err(Status::unauthenticated("a valid x-api-key is required")),
        }
    }
}
