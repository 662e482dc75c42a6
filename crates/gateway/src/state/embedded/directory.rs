//! A data directory: created if need be, and locked, so that no second gateway writes to it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::super::Error;
use super::database::Open;

const LOCK_FILE: &str = "LOCK";
const STATE_FILE: &str = "state.redb";

/// redb keeps this much of the file in the process; the system's page cache has the rest.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

pub(super) struct Directory {
    path: PathBuf,
    /// Locked as long as it is open; the system unlocks it when the process ends, however it ends.
    _lock: File,
}

impl Directory {
    pub(super) fn lock(path: &Path) -> Result<Self, Error> {
        let cannot = |what: &str, error: std::io::Error| {
            Error::Unavailable(format!(
                "cannot {what} in the data directory {}: {error}",
                path.display()
            ))
        };
        fs::create_dir_all(path).map_err(|error| {
            Error::Unavailable(format!(
                "cannot create the data directory {}: {error}",
                path.display()
            ))
        })?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(|error| cannot("write", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only adds to the message.
                let _ = lock.read_to_string(&mut owner);
                let owner = owner.trim();
                return Err(Error::Unavailable(format!(
                    "the data directory {} is in use by another gateway (process {}): stop that one, or give this one a \
                     directory of its own with --data",
                    path.display(),
                    if owner.is_empty() { "unknown" } else { owner },
                )));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock a file", error)),
        }
        // A full disk is no reason to refuse reading, so that this may fail.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    fn file(&self) -> PathBuf {
        self.path.join(STATE_FILE)
    }

    pub(super) fn name(&self) -> String {
        self.file().display().to_string()
    }

    pub(super) fn opener(&self) -> Open {
        let file = self.file();
        Box::new(move || {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(CACHE_BYTES);
            if !file.exists() {
                create(&builder, &file)?;
            }
            builder.open(&file)
        })
    }
}

/// Makes an empty database that appears as a whole: a process that is killed meanwhile leaves no half of one.
fn create(builder: &redb::Builder, file: &Path) -> Result<(), redb::DatabaseError> {
    let unfinished = file.with_extension("new");
    if unfinished.exists() {
        fs::remove_file(&unfinished)?;
    }
    builder.create(&unfinished)?.close()?;
    fs::rename(&unfinished, file)?;
    // The name is on disk when the directory is.
    if let Some(directory) = file.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
