//! One host of a backend: its channel, its health and its schema.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::connection::{Connections, channel};
use super::probe::probe;
use super::schema::SchemaCache;
use crate::registry::Target;

/// What all hosts have in common.
#[derive(Clone, Debug)]
pub(crate) struct HostOptions {
    pub(crate) connect_timeout: Duration,
    pub(crate) reflection_timeout: Duration,
}

/// A host of a backend.
#[derive(Debug)]
pub struct Host {
    target: Target,
    pub(super) descriptor_set: Option<PathBuf>,
    channel: Result<Channel, String>,
    pub(super) connections: Arc<Connections>,
    health: Mutex<Health>,
    pub(super) schema: SchemaCache,
    pub(super) options: HostOptions,
    probing: Mutex<Option<AbortHandle>>,
}

/// What is known about a host.
///
/// ```text
/// Unknown ──answers──> Serving <──answers── Down
///    └──────fails────────┴──────fails────────^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing has been heard yet.
    Unknown,
    /// It answers.
    Serving,
    /// It does not.
    Down {
        /// Since when.
        since: SystemTime,
        /// The newest reason.
        reason: String,
    },
}

impl Host {
    pub(crate) fn new(
        target: Target,
        descriptor_set: Option<PathBuf>,
        options: &HostOptions,
    ) -> Arc<Self> {
        let connections = Arc::new(Connections::default());
        let channel = channel(&target, options.connect_timeout, &connections);
        let host = Arc::new(Self {
            target,
            descriptor_set,
            channel,
            connections,
            health: Mutex::new(Health::Unknown),
            schema: SchemaCache::default(),
            options: options.clone(),
            probing: Mutex::new(None),
        });
        let probing = tokio::spawn(probe(Arc::downgrade(&host)));
        *host.probing.lock().unwrap_or_else(PoisonError::into_inner) = Some(probing.abort_handle());
        host
    }

    /// Returns where it listens.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns what is known about it.
    pub fn health(&self) -> Health {
        self.lock().clone()
    }

    /// Returns whether this host is what a registry entry asks for.
    pub(crate) fn serves(&self, target: &Target, descriptor_set: Option<&Path>) -> bool {
        self.target == *target && self.descriptor_set.as_deref() == descriptor_set
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(*self.lock(), Health::Down { .. })
    }

    /// Returns the channel, or why there cannot be one.
    pub(crate) fn channel(&self) -> Result<Channel, Status> {
        self.channel.clone().map_err(Status::unavailable)
    }

    /// Records that the host answered.
    pub(crate) fn mark_serving(&self) {
        let mut health = self.lock();
        if *health != Health::Serving {
            if matches!(*health, Health::Down { .. }) {
                tracing::info!(host = %self.target, "backend host is back");
            }
            *health = Health::Serving;
        }
    }

    /// Records that the host did not answer.
    pub(crate) fn mark_down(&self, reason: &str) {
        let mut health = self.lock();
        let since = match *health {
            Health::Down { since, .. } => since,
            _ => {
                tracing::warn!(host = %self.target, reason, "backend host is down");
                SystemTime::now()
            }
        };
        *health = Health::Down { since, reason: reason.to_owned() };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let probing = self.probing.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(probing) = probing.take() {
            probing.abort();
        }
    }
}

/// Returns whether a call failed before anything of it was sent, so that another host may be tried.
pub(crate) fn was_never_sent(status: &Status) -> bool {
    if status.code() != Code::Unavailable {
        return false;
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Returns a status' message with its innermost cause, which is where "connection refused" is said.
pub(crate) fn reason(status: &Status) -> String {
    let mut innermost = None;
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        innermost = Some(error);
        source = error.source();
    }
    match innermost.map(ToString::to_string) {
        Some(cause) if !status.message().contains(&cause) => {
            format!("{}: {cause}", status.message())
        }
        _ => status.message().to_owned(),
    }
}
