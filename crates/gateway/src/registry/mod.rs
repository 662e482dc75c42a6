//! The registered backends: those of the registry file, which is reloaded when it changes, and those that the program adds.

mod file;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

pub use file::{Cron, FileError, ServiceEntry, Target, parse};
pub(crate) use watch::watch;

use crate::backend::{Backend, Host, HostOptions};
use crate::state::Store;

/// The backends by name. Readers take a snapshot, so that a reload never disturbs a call.
#[derive(Debug)]
pub struct Registry {
    options: HostOptions,
    file: Option<PathBuf>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    from_file: Vec<ServiceEntry>,
    added: Vec<ServiceEntry>,
    /// By lower-case name.
    backends: Arc<BTreeMap<String, Arc<Backend>>>,
    rejected: Option<FileError>,
}

impl Registry {
    pub(crate) async fn open(
        file: Option<PathBuf>,
        options: HostOptions,
    ) -> Result<Arc<Self>, FileError> {
        let registry = Self { options, file, state: RwLock::default() };
        if let Some(path) = &registry.file {
            let entries = file::read(path).await?;
            registry.replace(|state| state.from_file = entries);
        }
        Ok(Arc::new(registry))
    }

    /// Registers a service beside those of the file, or replaces one that was added under the same name.
    pub fn add(&self, entry: ServiceEntry) {
        self.replace(|state| {
            state.added.retain(|known| !known.name.eq_ignore_ascii_case(&entry.name));
            state.added.push(entry);
        });
    }

    /// Removes a service that was added, and returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut removed = false;
        self.replace(|state| {
            let before = state.added.len();
            state.added.retain(|known| !known.name.eq_ignore_ascii_case(name));
            removed = state.added.len() < before;
        });
        removed
    }

    /// Reads the registry file again. A file that is wrong leaves the registry as it was.
    pub async fn reload(&self) -> Result<(), FileError> {
        let Some(path) = &self.file else { return Ok(()) };
        match file::read(path).await {
            Ok(entries) => {
                self.replace(|state| {
                    state.from_file = entries;
                    state.rejected = None;
                });
                Ok(())
            }
            Err(error) => {
                self.write().rejected = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Returns why the newest version of the registry file is not in force, if it is wrong.
    pub fn rejected(&self) -> Option<FileError> {
        self.read().rejected.clone()
    }

    /// Returns the backends in the order of their names.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.read().backends.values().cloned().collect()
    }

    /// Finds a backend by its name, in any case.
    pub fn find(&self, name: &str) -> Option<Arc<Backend>> {
        let state = self.read();
        match state.backends.get(name) {
            Some(found) => Some(found.clone()),
            None => state.backends.get(&name.to_lowercase()).cloned(),
        }
    }

    /// Registers the keys that the registry file lists.
    pub(crate) async fn register_keys(&self, store: &dyn Store) {
        for backend in self.backends() {
            let entry = backend.entry();
            if entry.state_keys.is_empty() {
                continue;
            }
            if let Err(error) = store.register_keys(&entry.name, entry.state_keys.clone()).await {
                tracing::error!(service = entry.name, %error, "its keys are not registered");
            }
        }
    }

    /// Rebuilds the backends after a change. Hosts that stay keep their connections, schemas and health.
    fn replace(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.write();
        change(&mut state);
        let old: Vec<Arc<Host>> =
            state.backends.values().flat_map(|backend| backend.hosts().to_vec()).collect();
        let mut backends = BTreeMap::new();
        // What the program adds wins: a file must not redirect a built-in backend.
        for entry in state.from_file.iter().chain(&state.added) {
            let hosts = entry
                .targets
                .iter()
                .map(|target| {
                    old.iter()
                        .find(|host| host.serves(target, entry.descriptor_set.as_deref()))
                        .cloned()
                        .unwrap_or_else(|| {
                            Host::new(target.clone(), entry.descriptor_set.clone(), &self.options)
                        })
                })
                .collect();
            backends
                .insert(entry.name.to_lowercase(), Arc::new(Backend::new(entry.clone(), hosts)));
        }
        state.backends = Arc::new(backends);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
