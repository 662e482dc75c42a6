//! The embedded store: redb, in a directory that one gateway owns or in memory.
//!
//! Reads run where they are asked for, on a snapshot. Writes go to one thread (`writer.rs`), which commits all that wait at
//! once, so that many writers share one fsync.

mod database;
mod directory;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as thread;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::tables::{View, millis};
use super::{Clock, Entry, Error, Keys, Store, Write, limits};
use database::Database;
pub use database::Open;
use directory::Directory;
use writer::Request;

/// How many writes may wait for the writer before those who ask have to wait too.
const QUEUE: usize = 1024;

/// A store in this process.
pub struct EmbeddedStore {
    database: Arc<Database>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<std::thread::JoinHandle<()>>,
    clock: Clock,
    /// Unlocked once the writer has ended.
    _directory: Option<Directory>,
}

impl EmbeddedStore {
    /// Opens a store that is gone with the process.
    pub fn in_memory(clock: Clock) -> Result<Self, Error> {
        let open =
            || redb::Builder::new().create_with_backend(redb::backends::InMemoryBackend::new());
        Self::start("the state in memory".into(), Box::new(open), None, clock)
    }

    /// Opens a store in a directory, which is created if need be and locked against other processes.
    pub fn in_directory(directory: &Path, clock: Clock) -> Result<Self, Error> {
        let directory = Directory::lock(directory)?;
        let name = directory.name();
        let open = directory.opener();
        Self::start(name, open, Some(directory), clock)
    }

    /// Opens a store on what `open` opens, which is called again after an error of the storage. `name` stands in errors.
    pub fn on(name: &str, open: Open, clock: Clock) -> Result<Self, Error> {
        Self::start(name.into(), open, None, clock)
    }

    fn start(
        name: String,
        open: Open,
        directory: Option<Directory>,
        clock: Clock,
    ) -> Result<Self, Error> {
        // Etags of an earlier database at the same place never match those of a new one.
        let first_revision = millis(clock()) * 1000;
        let database = Arc::new(Database::open(name, open, first_revision)?);
        let (requests, queue) = mpsc::channel(QUEUE);
        let (started, has_started) = thread::channel();
        let writer = std::thread::Builder::new()
            .name("oxgrpc-state".into())
            .spawn({
                let database = database.clone();
                let clock = clock.clone();
                move || writer::run(&database, queue, &clock, &started)
            })
            .map_err(|error| Error::Unavailable(format!("the writer does not start: {error}")))?;
        has_started
            .recv()
            .map_err(|_| Error::Unavailable("the writer does not start".into()))??;
        Ok(Self {
            database,
            requests: Some(requests),
            writer: Some(writer),
            clock,
            _directory: directory,
        })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let stopped = || Error::Unavailable(format!("{} has stopped", self.database.name()));
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(request(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Reads a snapshot; once more, if the database had to be opened again after an error of the storage.
    async fn read<T>(&self, read: impl Fn(&View) -> Result<T, redb::Error>) -> Result<T, Error> {
        match self.database.view().and_then(|view| read(&view)) {
            Ok(value) => return Ok(value),
            Err(redb::Error::Corrupted(what)) => {
                return Err(self.database.error(&redb::Error::Corrupted(what)));
            }
            Err(_) => self.ask(Request::Check).await?,
        }
        self.database
            .view()
            .and_then(|view| read(&view))
            .map_err(|error| self.database.error(&error))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // A panic there has been reported; what is committed is on disk.
            let _ = writer.join();
        }
        self.database.close();
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, service: &str, key: &str) -> Result<Option<Entry>, Error> {
        limits::check_service(service)?;
        limits::check_key(key)?;
        let now = millis((self.clock)());
        self.read(|view| view.get(service, key, now)).await
    }

    async fn transact(
        &self,
        service: &str,
        writes: Vec<Write>,
    ) -> Result<Vec<Option<String>>, Error> {
        limits::check_writes(service, &writes)?;
        let service = service.to_owned();
        self.ask(|reply| Request::Transact { service, writes, reply }).await
    }

    async fn register_keys(&self, service: &str, keys: Vec<String>) -> Result<(), Error> {
        limits::check_keys(service, &keys)?;
        let service = service.to_owned();
        self.ask(|reply| Request::Register { service, keys, reply }).await
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
        self.ask(Request::Check).await?;
        self.database.view().map(drop).map_err(|error| self.database.error(&error))
    }
}
