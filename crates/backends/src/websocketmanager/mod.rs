//! WebSocketManager: holds WebSocket connections and bridges them to topics.
//!
//! Connections may lead anywhere, this machine included: they carry what their user sends and publish what they receive, and
//! run none of it. `wss://` verifies the server against the system's roots and, if given, an authority of one's own.

mod connection;

use crate::platform::Platform;
use crate::server::{Backend, Options, StartError};
use connection::{Connection, MAX_FRAME_BYTES, Surroundings, frame};
use oxgrpc_proto::virtufin::web_socket_manager_server::{self, WebSocketManagerServer};
use oxgrpc_proto::virtufin::{
    ConnectRequest, ConnectResponse, DisconnectRequest, ListConnectionsRequest,
    ListConnectionsResponse, SendRawRequest, SendRequest, SendResponse, StartPublishRequest,
    StatusResponse, StopPublishRequest,
};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::http::Uri;
use tonic::{Request, Response, Status};

/// The topic of events about connections, unless another is chosen.
pub const STATUS_TOPIC: &str = "websocketmanager.connectionstatus";

/// How long `Send` waits for an answer by default.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a WebSocketManager is started with.
#[derive(Clone, Debug)]
pub struct WebSocketManagerOptions {
    /// Connections that there may be at a time.
    pub max_connections: usize,
    /// An authority, PEM, that is trusted beside the system's.
    pub authority: Option<Vec<u8>>,
    /// The topic of events about connections.
    pub status_topic: String,
}

impl Default for WebSocketManagerOptions {
    fn default() -> Self {
        Self { max_connections: 100, authority: None, status_topic: STATUS_TOPIC.into() }
    }
}

/// Starts a WebSocketManager.
///
/// # Errors
///
/// Fails if the address cannot be listened on, or an option is malformed.
pub async fn start(options: &Options, own: WebSocketManagerOptions) -> Result<Backend, StartError> {
    let platform = Platform::new("websocketmanager", &options.gateway)
        .map_err(|error| StartError::Gateway { uri: options.gateway.uri.clone(), error })?;
    let instance_id = std::env::var("HOSTNAME").unwrap_or_else(|_| "local".into());
    let surroundings = Surroundings {
        platform,
        tls: Arc::new(tls(own.authority.as_deref())?),
        instance_id: instance_id.into(),
        status_topic: own.status_topic.into(),
    };
    let manager = Arc::new(Manager {
        surroundings,
        max_connections: own.max_connections,
        connections: Mutex::default(),
        tasks: TaskTracker::new(),
    });
    let service = WebSocketManagerServer::from_arc(manager.clone());
    let service = service.max_decoding_message_size(MAX_FRAME_BYTES + 1024);
    let stop = CancellationToken::new();
    Backend::serve(options, service, stop, async move { manager.shut_down().await }).await
}

fn tls(authority: Option<&[u8]>) -> Result<ClientConfig, StartError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in authority.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        let setup = |error: &dyn std::fmt::Display| StartError::Setup(format!("--ca: {error}"));
        let certificate = certificate.map_err(|error| setup(&error))?;
        roots.add(certificate).map_err(|error| setup(&error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| StartError::Setup(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

struct Manager {
    surroundings: Surroundings,
    max_connections: usize,
    connections: Mutex<BTreeMap<String, Arc<Connection>>>,
    tasks: TaskTracker,
}

impl Manager {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, id: &str) -> Result<Arc<Connection>, Status> {
        let found = self.connections().get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("there is no connection {id:?}")))
    }

    async fn shut_down(&self) {
        for connection in self.connections().values() {
            connection.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn done(message: String) -> Response<StatusResponse> {
    Response::new(StatusResponse { success: true, status: "OK".into(), message })
}

fn check_url(url: &str) -> Result<(), Status> {
    let parsed = url.parse::<Uri>().ok();
    let scheme = parsed.as_ref().and_then(Uri::scheme_str);
    match (scheme, parsed.as_ref().and_then(Uri::host)) {
        (Some("ws" | "wss"), Some(_)) => Ok(()),
        _ => Err(Status::invalid_argument(format!("{url:?} is no ws:// or wss:// URL"))),
    }
}

#[tonic::async_trait]
impl web_socket_manager_server::WebSocketManager for Manager {
    async fn connect(
        &self,
        request: Request<ConnectRequest>,
    ) -> Result<Response<ConnectResponse>, Status> {
        let request = request.into_inner();
        check_url(&request.url)?;
        let (connection, frames) = Connection::new(request.url.clone(), request.auto_reconnect);
        {
            let mut connections = self.connections();
            if connections.len() >= self.max_connections {
                let text = format!("there are {} connections already", connections.len());
                return Err(Status::resource_exhausted(text));
            }
            connections.insert(connection.id.clone(), connection.clone());
        }
        // Without auto_reconnect a connection that cannot be made is none; a caller who goes away leaves none either.
        let pending = Pending { manager: self, id: Some(connection.id.clone()) };
        let socket = connection.connect(&self.surroundings.tls).await;
        if let (Err(error), false) = (&socket, request.auto_reconnect) {
            return Err(Status::unavailable(format!("{}: {error}", request.url)));
        }
        let status = if socket.is_ok() { "CONNECTED" } else { "CONNECTING" };
        let id = pending.keep();
        self.tasks.spawn(connection.run(self.surroundings.clone(), socket, frames));
        Ok(Response::new(ConnectResponse { id, status: status.into() }))
    }

    async fn list(
        &self,
        _request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let instance_id = &self.surroundings.instance_id;
        let connections = self.connections();
        let connections = connections.values().map(|connection| connection.info(instance_id));
        Ok(Response::new(ListConnectionsResponse { connections: connections.collect() }))
    }

    async fn disconnect(
        &self,
        request: Request<DisconnectRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let id = request.into_inner().id;
        let connection = self.connection(&id)?;
        connection.stop.cancel();
        self.connections().remove(&id);
        Ok(done(format!("connection {id} is disconnected")))
    }

    async fn start_publish(
        &self,
        request: Request<StartPublishRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let StartPublishRequest { id, topic } = request.into_inner();
        if topic.is_empty() {
            return Err(Status::invalid_argument("topic must name where frames are published"));
        }
        self.connection(&id)?.publish_to(Some(topic.clone()));
        Ok(done(format!("frames of connection {id} are published to {topic}")))
    }

    async fn stop_publish(
        &self,
        request: Request<StopPublishRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let id = request.into_inner().id;
        let message = match self.connection(&id)?.publish_to(None) {
            Some(topic) => format!("frames of connection {id} are no longer published to {topic}"),
            None => format!("frames of connection {id} were not published"),
        };
        Ok(done(message))
    }

    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        let request = request.into_inner();
        let limit = match u64::try_from(request.timeout_ms) {
            Ok(0) => ANSWER_TIMEOUT,
            Ok(milliseconds) => Duration::from_millis(milliseconds),
            Err(_) => return Err(Status::invalid_argument("timeout_ms is negative")),
        };
        let connection = self.connection(&request.id)?;
        let response = connection.ask(&request.message, limit).await?;
        Ok(Response::new(SendResponse { response }))
    }

    async fn send_raw(
        &self,
        request: Request<SendRawRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let request = request.into_inner();
        let connection = self.connection(&request.id)?;
        connection.send(frame(request.message, &request.content_type)?).await?;
        Ok(done(format!("the message is on its way on connection {}", request.id)))
    }
}

/// A connection that is listed while it is being made, and taken off the list unless it is kept.
struct Pending<'a> {
    manager: &'a Manager,
    id: Option<String>,
}

impl Pending<'_> {
    fn keep(mut self) -> String {
        self.id.take().unwrap_or_default()
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.manager.connections().remove(id);
        }
    }
}
