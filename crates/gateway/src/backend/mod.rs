//! Backends: the hosts of a registered service, which of them is called next, and what they serve.

mod connection;
mod host;
mod probe;
mod schema;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use host::{Health, Host};
pub(crate) use host::{HostOptions, reason, was_never_sent};
pub(crate) use schema::HostSchema;

use crate::registry::ServiceEntry;

/// A registered service and its hosts.
#[derive(Debug)]
pub struct Backend {
    entry: ServiceEntry,
    hosts: Vec<Arc<Host>>,
    turn: AtomicUsize,
}

impl Backend {
    pub(crate) fn new(entry: ServiceEntry, hosts: Vec<Arc<Host>>) -> Self {
        Self { entry, hosts, turn: AtomicUsize::new(0) }
    }

    /// Returns what the registry says about the service.
    pub fn entry(&self) -> &ServiceEntry {
        &self.entry
    }

    /// Returns the hosts as they are registered.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// Returns the hosts in the order in which a call should try them: those that are not known to be down take turns, and
    /// the others come last, since one of them may just have come back.
    pub(crate) fn candidates(&self) -> Vec<Arc<Host>> {
        if self.hosts.len() == 1 {
            return self.hosts.clone();
        }
        let (mut up, down): (Vec<_>, Vec<_>) =
            self.hosts.iter().cloned().partition(|host| !host.is_down());
        if !up.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % up.len();
            up.rotate_left(turn);
        }
        up.extend(down);
        up
    }
}
