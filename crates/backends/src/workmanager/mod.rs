//! WorkManager: keeps workers, programs that users give it, and runs them on the events of their topics.
//!
//! What is kept of a worker lies in the gateway's state, so that workers outlive the platform; those that ran are started
//! again. A worker's code runs as this process's user: the door to it is the gateway's, with its keys and host checks.

mod addresses;
mod events;
mod fetch;
mod logs;
mod process;
mod record;
mod service;
mod worker;

pub use process::Limits;

use crate::platform::Platform;
use crate::server::{Backend, Options, StartError};
use fetch::Fetcher;
use oxgrpc_proto::virtufin::work_manager_server::WorkManagerServer;
use process::Interpreter;
use service::WorkManager;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The topic of life-cycle events, unless another is chosen.
pub const STATUS_TOPIC: &str = "workmanager.workerstatus";

/// The largest request: code, and what its envelope may add.
const MAX_MESSAGE_BYTES: usize = fetch::MAX_CODE_BYTES + (64 << 10);

/// What a WorkManager is started with.
#[derive(Clone, Debug)]
pub struct WorkManagerOptions {
    /// The interpreter that runs workers.
    pub python: PathBuf,
    /// What each worker may use.
    pub limits: Limits,
    /// Workers that there may be at a time.
    pub max_workers: usize,
    /// Hosts with private addresses, as `HOST:PORT`, that code may be fetched from.
    pub allowed_urls: Vec<String>,
    /// An authority, PEM, that is trusted beside the system's where code is fetched.
    pub authority: Option<Vec<u8>>,
    /// The topic of life-cycle events.
    pub status_topic: String,
}

impl Default for WorkManagerOptions {
    fn default() -> Self {
        Self {
            python: "python3".into(),
            limits: Limits::default(),
            max_workers: 100,
            allowed_urls: Vec::new(),
            authority: None,
            status_topic: STATUS_TOPIC.into(),
        }
    }
}

/// Starts a WorkManager, and the workers that ran when the last one stopped. The gateway should serve already; where it
/// does not yet, workers are recovered once `RecoverWorkers` is called.
///
/// # Errors
///
/// Fails if the address cannot be listened on, there is no such interpreter, or an option is malformed.
pub async fn start(options: &Options, own: WorkManagerOptions) -> Result<Backend, StartError> {
    let platform = Platform::new("workmanager", &options.gateway)
        .map_err(|error| StartError::Gateway { uri: options.gateway.uri.clone(), error })?;
    let fetcher = Fetcher::new(&own.allowed_urls, own.authority.as_deref());
    let fetcher = fetcher.map_err(|error| StartError::Setup(format!("--ca: {error}")))?;
    let environment = match options.gateway.uri.parse::<tonic::codegen::http::Uri>() {
        Ok(uri) => vec![
            ("VIRTUFIN_API_HOST", uri.host().unwrap_or("localhost").to_owned()),
            ("VIRTUFIN_API_GRPC_PORT", uri.port_u16().unwrap_or(5002).to_string()),
        ],
        Err(_) => Vec::new(),
    };
    let python = process::interpreter(&own.python).await.map_err(StartError::Setup)?;
    let interpreter = Interpreter { python, limits: own.limits, environment };
    let manager = Arc::new(WorkManager::new(
        platform,
        fetcher,
        Arc::new(interpreter),
        own.max_workers,
        own.status_topic.into(),
    ));
    if let Err(status) = manager.recover().await {
        tracing::warn!(%status, "workers could not be recovered");
    }
    let service = WorkManagerServer::from_arc(manager.clone());
    let service = service.max_decoding_message_size(MAX_MESSAGE_BYTES);
    let stop = CancellationToken::new();
    // Followers of logs would hold the server open.
    let closing = manager.clone();
    let on_stop = stop.clone();
    tokio::spawn(async move {
        on_stop.cancelled().await;
        closing.close();
    });
    Backend::serve(options, service, stop, async move { manager.shut_down().await }).await
}
