//! The store that gateways share: a log of transactions. Every gateway carries out all of them, in the log's order, in tables of
//! its own (`tables.rs`), and so all have the same state.
//!
//! A write is appended and then carried out where the log has put it: whether its conditions hold is decided there, by every
//! gateway alike, so that of many writers one wins, and a transaction happens as a whole however many messages it takes. A
//! read first asks NATS how long the log is and waits until it has come so far: it sees every write acknowledged before.
//!
//! The tables lie in a temporary file without a name. A revision, and so an etag, is the transaction's place in the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use redb::{Database, StorageBackend};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use super::tables::{Tables, View, etags, millis, prepare};
use super::{Clock, Condition, Entry, Error, Keys, Store, Write, limits};
use crate::nats::{Connection, Log, Reader, Record, Retention, Start};

const LOG: &str = "OXGRPC_STATE";
/// How long a read waits for the log, and a write for its outcome.
const PATIENCE: Duration = Duration::from_secs(10);
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Records that are carried out in one commit, at most.
const BATCH: usize = 256;

/// A transaction, as it stands in the log.
#[derive(Clone, PartialEq, prost::Message)]
struct Logged {
    #[prost(string, tag = "1")]
    service: String,
    /// The writer's time, milliseconds since 1970: whatever expires does so alike for all.
    #[prost(uint64, tag = "2")]
    now: u64,
    #[prost(message, repeated, tag = "3")]
    writes: Vec<LoggedWrite>,
    #[prost(string, repeated, tag = "4")]
    registered: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LoggedWrite {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
    #[prost(string, optional, tag = "3")]
    matches: Option<String>,
    #[prost(bool, tag = "4")]
    absent: bool,
    #[prost(uint64, optional, tag = "5")]
    ttl_ms: Option<u64>,
}

impl From<Write> for LoggedWrite {
    fn from(write: Write) -> Self {
        let (matches, absent) = match write.condition {
            Condition::Always => (None, false),
            Condition::Match(etag) => (Some(etag), false),
            Condition::Absent => (None, true),
        };
        let ttl_ms = write.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        Self { key: write.key, value: write.value, matches, absent, ttl_ms }
    }
}

impl From<LoggedWrite> for Write {
    fn from(logged: LoggedWrite) -> Self {
        let condition = match (logged.matches, logged.absent) {
            (Some(etag), _) => Condition::Match(etag),
            (None, true) => Condition::Absent,
            (None, false) => Condition::Always,
        };
        let ttl = logged.ttl_ms.map(Duration::from_millis);
        Self { key: logged.key, value: logged.value, condition, ttl }
    }
}

type Outcome = Result<Vec<Option<String>>, Error>;

/// Writers of this gateway that wait for what becomes of their records.
#[derive(Default)]
struct Waiting(Mutex<HashMap<Uuid, oneshot::Sender<Outcome>>>);

impl Waiting {
    fn add(self: &Arc<Self>, id: Uuid) -> (oneshot::Receiver<Outcome>, Forget) {
        let (outcome, told) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, outcome);
        (told, Forget { id, waiting: self.clone() })
    }

    fn take(&self, id: Uuid) -> Option<oneshot::Sender<Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

/// Forgets a writer that waits no longer.
struct Forget {
    id: Uuid,
    waiting: Arc<Waiting>,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.waiting.take(self.id);
    }
}

/// A file that need not outlive the process: what is synced is in the log.
#[derive(Debug)]
struct Scratch(redb::backends::FileBackend);

impl StorageBackend for Scratch {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
}

fn scratch() -> Result<Database, redb::Error> {
    let file = tempfile::tempfile()?;
    let backend = Scratch(redb::backends::FileBackend::new(file)?);
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
    let transaction = database.begin_write()?;
    prepare(&transaction, 0)?;
    transaction.commit()?;
    Ok(database)
}

fn local(error: &redb::Error) -> Error {
    Error::Unavailable(format!("the gateway's copy of the state cannot be used: {error}"))
}

/// A store over NATS.
pub struct NatsStore {
    log: Log,
    database: Arc<Database>,
    waiting: Arc<Waiting>,
    /// How far the log has been carried out.
    done: watch::Receiver<u64>,
    clock: Clock,
    _reader: Reader,
}

impl NatsStore {
    /// Connects to `nats://host:port`, several separated by commas, and carries out what the log has.
    pub async fn connect(url: &str, clock: Clock) -> Result<Self, Error> {
        let connection = Connection::open(url).await.map_err(Error::Unavailable)?;
        let log =
            Log::open(connection, LOG, Retention::Forever).await.map_err(Error::Unavailable)?;
        let database = Arc::new(scratch().map_err(|error| local(&error))?);
        let waiting = Arc::new(Waiting::default());
        let (progress, done) = watch::channel(0);
        let (end, reader, records) =
            log.read(Start::Beginning).await.map_err(Error::Unavailable)?;
        std::thread::Builder::new()
            .name("oxgrpc-state".into())
            .spawn({
                let (database, waiting) = (database.clone(), waiting.clone());
                move || carry_out(&database, &waiting, records, &progress)
            })
            .map_err(|error| local(&error.into()))?;
        let store = Self { log, database, waiting, done, clock, _reader: reader };
        // However long the log is: there is nothing to serve before.
        store.reach(end).await?;
        Ok(store)
    }

    /// Waits until the log has been carried out up to a place.
    async fn reach(&self, place: u64) -> Result<(), Error> {
        let mut done = self.done.clone();
        done.wait_for(|done| *done >= place).await.map(drop).map_err(|_| {
            Error::Unavailable("the gateway's copy of the state has stopped: see its log".into())
        })
    }

    /// Waits until this gateway knows of all that was acknowledged before.
    async fn catch_up(&self) -> Result<(), Error> {
        let end = self.log.end().await.map_err(Error::Unavailable)?;
        timeout(PATIENCE, self.reach(end)).await.map_err(|_| {
            Error::Unavailable(format!("the gateway is behind NATS by more than {PATIENCE:?}"))
        })?
    }

    async fn read<T>(&self, read: impl Fn(&View) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.catch_up().await?;
        View::of(&self.database).and_then(|view| read(&view)).map_err(|error| local(&error))
    }

    /// Appends a record, and waits for what becomes of it.
    async fn append(&self, logged: Logged) -> Outcome {
        let id = Uuid::new_v4();
        let (told, _forget) = self.waiting.add(id);
        let record = logged.encode_to_vec().into();
        self.log.append(id, &record).await.map_err(Error::Unavailable)?;
        match timeout(PATIENCE, told).await {
            Ok(Ok(outcome)) => outcome,
            _ => Err(Error::Unavailable(format!(
                "NATS has the write, and the gateway has not read it back within {PATIENCE:?}"
            ))),
        }
    }

    fn logged(&self, service: &str, writes: Vec<Write>, registered: Vec<String>) -> Logged {
        Logged {
            service: service.into(),
            now: millis((self.clock)()),
            writes: writes.into_iter().map(LoggedWrite::from).collect(),
            registered,
        }
    }
}

/// Carries out records until the reader ends, all that wait in one commit.
fn carry_out(
    database: &Database,
    waiting: &Waiting,
    mut records: mpsc::Receiver<Record>,
    progress: &watch::Sender<u64>,
) {
    while let Some(first) = records.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(record) = records.try_recv()
        {
            batch.push(record);
        }
        let place = batch.last().map_or(0, |record| record.place);
        match commit(database, batch) {
            Ok(outcomes) => {
                progress.send_replace(place);
                for (id, outcome) in outcomes {
                    if let Some(writer) = waiting.take(id) {
                        let _ = writer.send(outcome);
                    }
                }
            }
            Err(error) => {
                // Going on would be another state than the others have.
                tracing::error!(%error, "the copy of the state has stopped");
                return;
            }
        }
    }
}

fn commit(database: &Database, batch: Vec<Record>) -> Result<Vec<(Uuid, Outcome)>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut outcomes = Vec::new();
    {
        let mut tables = Tables::open(&transaction)?;
        for Record { place, content } in batch {
            let Some((id, content)) = content else { continue };
            let Ok(logged) = Logged::decode(content) else {
                tracing::warn!(place, "a transaction that cannot be read");
                continue;
            };
            let Logged { service, now, writes, registered } = logged;
            let writes: Vec<Write> = writes.into_iter().map(Write::from).collect();
            tables.register(&service, &registered)?;
            let outcome = match tables.apply(&service, &writes, now, place)? {
                Ok(()) => Ok(etags(&writes, place)),
                Err(key) => Err(Error::Conflict { key }),
            };
            tables.sweep(now, BATCH)?;
            outcomes.push((id, outcome));
        }
    }
    transaction.commit()?;
    Ok(outcomes)
}

#[async_trait]
impl Store for NatsStore {
    async fn get(&self, service: &str, key: &str) -> Result<Option<Entry>, Error> {
        limits::check_service(service)?;
        limits::check_key(key)?;
        let now = millis((self.clock)());
        self.read(|view| view.get(service, key, now)).await
    }

    async fn transact(&self, service: &str, writes: Vec<Write>) -> Outcome {
        limits::check_writes(service, &writes)?;
        self.append(self.logged(service, writes, Vec::new())).await
    }

    async fn register_keys(&self, service: &str, keys: Vec<String>) -> Result<(), Error> {
        limits::check_keys(service, &keys)?;
        self.append(self.logged(service, Vec::new(), keys)).await.map(drop)
    }

    async fn registered_keys(&self, service: &str) -> Result<Vec<String>, Error> {
        limits::check_service(service)?;
        self.read(|view| view.registered(service)).await
    }

    async fn entries(
        &self,
        service: &str,
        max_bytes: usize,
    ) -> Result<Vec<(String, Entry)>, Error> {
        limits::check_service(service)?;
        let now = millis((self.clock)());
        self.read(|view| view.entries(service, max_bytes, now))
            .await?
            .ok_or_else(|| limits::too_many_entries(service, max_bytes))
    }

    async fn list_keys(
        &self,
        service: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Keys, Error> {
        limits::check_service(service)?;
        let now = millis((self.clock)());
        self.read(|view| view.list_keys(service, prefix, after, limit, now)).await
    }

    async fn health(&self) -> Result<(), Error> {
        self.catch_up().await
    }
}
