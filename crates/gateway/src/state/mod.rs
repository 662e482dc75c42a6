//! Key/value state: the contract that every store keeps, and the stores.
//!
//! A key belongs to a service and holds a value with an etag. Writes are conditional or not, and come in transactions that
//! happen as a whole or not at all, whatever fails in between. An acknowledged write survives the process.

mod embedded;
mod limits;
mod nats;
mod service;
mod tables;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::config::Storage;

pub use embedded::{EmbeddedStore, Open};
pub use nats::NatsStore;
pub(crate) use service::{Change, Changes};
pub use service::{STATE_CHANGES, StateService};

/// The longest key, in octets of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// The longest name of a service, in octets of UTF-8.
pub const MAX_SERVICE_BYTES: usize = 256;

/// The largest value: a 4 MiB message less what its envelope may take. The same for every store.
pub const MAX_VALUE_BYTES: usize = 4 * 1024 * 1024 - 16 * 1024;

/// The largest transaction: the sum of its keys and values.
pub const MAX_TRANSACTION_BYTES: usize = 16 * 1024 * 1024;

/// What a store takes for the current time, so that a test may move it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Returns the system's clock.
pub fn system_clock() -> Clock {
    Arc::new(SystemTime::now)
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value, as it was written.
    pub value: Bytes,
    /// Opaque; different after each write of the key, deletion and re-creation included.
    pub etag: String,
    /// When the value ceases to exist.
    pub expires: Option<SystemTime>,
}

/// What has to hold for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: the last write wins.
    Always,
    /// The key has a value, with this etag.
    Match(String),
    /// The key has no value.
    Absent,
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// 1 to [`MAX_KEY_BYTES`] octets.
    pub key: String,
    /// The new value, or `None` to delete the key.
    pub value: Option<Bytes>,
    /// What has to hold before the transaction.
    pub condition: Condition,
    /// How long the value lives; `None` means for ever.
    pub ttl: Option<Duration>,
}

/// A page of keys in the order of their octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The keys that have values.
    pub keys: Vec<String>,
    /// The last key of this page, if there are more.
    pub next: Option<String>,
}

/// Why a store refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A condition does not hold; nothing was written.
    #[error("the etag of key {key:?} does not match: somebody else has written it")]
    Conflict {
        /// The first key whose condition does not hold.
        key: String,
    },
    /// The caller's mistake: a service or key that no store takes.
    #[error("{0}")]
    Invalid(String),
    /// A value over [`MAX_VALUE_BYTES`], or no space left.
    #[error("{0}")]
    Exhausted(String),
    /// The store cannot be reached or used now. A write that fails so may have happened.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Conflict { .. } => Self::aborted(message),
            Error::Invalid(_) => Self::invalid_argument(message),
            Error::Exhausted(_) => Self::resource_exhausted(message),
            Error::Unavailable(_) => Self::unavailable(message),
        }
    }
}

/// A place where state is kept. Every method checks services, keys and values alike; see [`MAX_KEY_BYTES`] and
/// [`MAX_VALUE_BYTES`].
///
/// Dropping a future may or may not stop its write; what has returned `Ok` is durable.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Returns the key's value; `None` if it has none or it has expired.
    async fn get(&self, service: &str, key: &str) -> Result<Option<Entry>, Error>;

    /// Writes all or nothing, and returns the new etag of each write (`None` for a deletion). Conditions are about the state
    /// before the transaction; of two writes to one key the later wins.
    async fn transact(
        &self,
        service: &str,
        writes: Vec<Write>,
    ) -> Result<Vec<Option<String>>, Error>;

    /// Remembers keys, whether or not they have values. A written key need not be registered.
    async fn register_keys(&self, service: &str, keys: Vec<String>) -> Result<(), Error>;

    /// Returns the keys that were registered.
    async fn registered_keys(&self, service: &str) -> Result<Vec<String>, Error>;

    /// Returns all keys of a service that have values, with these. Refuses with [`Error::Exhausted`] if keys and values
    /// together exceed `max_bytes`.
    async fn entries(&self, service: &str, max_bytes: usize)
    -> Result<Vec<(String, Entry)>, Error>;

    /// Returns up to `limit` keys with values that begin with `prefix` and come after `after`.
    async fn list_keys(
        &self,
        service: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Keys, Error>;

    /// Returns `Ok` if a read and a write would succeed now.
    async fn health(&self) -> Result<(), Error>;
}

/// Opens the store that the configuration names. An error names the directory or server at fault.
pub async fn open(storage: &Storage) -> Result<Arc<dyn Store>, Error> {
    Ok(match storage {
        Storage::Ephemeral => Arc::new(EmbeddedStore::in_memory(system_clock())?),
        Storage::Directory(directory) => {
            Arc::new(EmbeddedStore::in_directory(directory, system_clock())?)
        }
        Storage::Nats { url } => Arc::new(NatsStore::connect(url, system_clock()).await?),
    })
}
