//! A redb database that is opened again after an error of its storage, which leaves redb's handle unusable.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use super::super::Error;
use super::super::tables::{View, prepare};

/// Opens the database, at first and after errors of the storage.
pub type Open = Box<dyn Fn() -> Result<redb::Database, redb::DatabaseError> + Send + Sync>;

pub(super) struct Database {
    /// Stands in errors: which directory, for instance.
    name: String,
    open: Open,
    first_revision: u64,
    current: RwLock<Option<Arc<redb::Database>>>,
}

impl Database {
    pub(super) fn open(name: String, open: Open, first_revision: u64) -> Result<Self, Error> {
        let database = Self { name, open, first_revision, current: RwLock::new(None) };
        database.reopen()?;
        Ok(database)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn current(&self) -> Result<Arc<redb::Database>, redb::Error> {
        // Only replaced as a whole, so that a panic of another holder leaves nothing half done.
        let current = self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        current.clone().ok_or(redb::Error::DatabaseClosed)
    }

    pub(super) fn view(&self) -> Result<View, redb::Error> {
        View::of(&*self.current()?)
    }

    /// Closes what is open and opens it anew.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        self.close();
        // A damaged file may make redb panic where it reads what it takes to be its own.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = (self.open)()?;
            let transaction = database.begin_write()?;
            prepare(&transaction, self.first_revision)?;
            transaction.commit()?;
            Ok(database)
        }));
        let database = opened
            .unwrap_or_else(|_| Err(redb::Error::Corrupted("it cannot be read".into())))
            .map_err(|error| self.error(&error))?;
        self.set(Some(Arc::new(database)));
        Ok(())
    }

    /// Closes the database. Readers hold it no longer than it takes to begin a snapshot, so that waiting for them is short.
    pub(super) fn close(&self) {
        let Some(closing) = self.set(None) else { return };
        let held = Arc::downgrade(&closing);
        drop(closing);
        while held.strong_count() > 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn set(&self, database: Option<Arc<redb::Database>>) -> Option<Arc<redb::Database>> {
        let mut current = self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::replace(&mut *current, database)
    }

    /// Says what has happened to the storage, by name.
    pub(super) fn error(&self, error: &redb::Error) -> Error {
        let name = &self.name;
        match error {
            redb::Error::Io(error) if is_full(error) => Error::Exhausted(format!(
                "no space is left for {name}: free some, and writes go on"
            )),
            redb::Error::Io(error) if is_damage(error) => Error::Unavailable(format!(
                "{name} is damaged or not a state file of oxgrpc ({error}): restore a backup or move it away"
            )),
            redb::Error::Corrupted(what) => Error::Unavailable(format!(
                "{name} is damaged ({what}): restore a backup or move it away"
            )),
            redb::Error::DatabaseAlreadyOpen => {
                Error::Unavailable(format!("{name} is in use by another process"))
            }
            error => Error::Unavailable(format!("{name} cannot be used: {error}")),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
