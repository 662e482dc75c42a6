//! A disk that fails on request, for redb: an error at a chosen operation, a power cut at it, or no space left.
//!
//! It knows what a file system promises: what was written before the last successful sync is there after a power cut; of what
//! came after, any part may be there, a write even in halves.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::{Database, DatabaseError, StorageBackend};

/// Writes arrive in such pieces, each whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It fails, a write after half of its octets; the next ones succeed.
    Error,
    /// The power goes: this operation and all later ones fail.
    PowerCut,
}

#[derive(Debug, Default)]
struct Content {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
    operations: usize,
    fault: Option<(usize, Fault)>,
    capacity: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Content>>);

fn apply(octets: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => octets.resize(usize::try_from(*length).unwrap(), 0),
        Change::Write(offset, data) => {
            let start = usize::try_from(*offset).unwrap();
            if octets.len() < start + data.len() {
                octets.resize(start + data.len(), 0);
            }
            octets[start..start + data.len()].copy_from_slice(data);
        }
    }
}

impl Disk {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    /// Opens the database on it.
    pub fn open(&self) -> Result<Database, DatabaseError> {
        redb::Builder::new().create_with_backend(Handle(self.clone()))
    }

    /// Counts operations from now on, and lets the one with that number fail.
    pub fn arm(&self, operation: usize, fault: Fault) {
        let mut content = self.content();
        content.operations = 0;
        content.fault = Some((operation, fault));
    }

    /// Returns whether the fault has happened; it does not happen from now on.
    pub fn disarm(&self) -> bool {
        let mut content = self.content();
        let (operation, _) = content.fault.take().unwrap();
        content.operations > operation
    }

    /// Sets how many octets there is room for.
    pub fn set_capacity(&self, octets: Option<usize>) {
        self.content().capacity = octets;
    }

    pub fn len(&self) -> usize {
        self.content().current.len()
    }

    /// Returns the disk as a power cut leaves it: `chance` decides which unsynced pieces have arrived.
    pub fn after_power_cut(&self, mut chance: impl FnMut() -> bool) -> Self {
        let content = self.content();
        let mut octets = content.synced.clone();
        for change in &content.unsynced {
            match change {
                Change::Length(_) => {
                    if chance() {
                        apply(&mut octets, change);
                    }
                }
                Change::Write(offset, data) => {
                    for (number, piece) in data.chunks(SECTOR).enumerate() {
                        let offset = offset + u64::try_from(number * SECTOR).unwrap();
                        let end = usize::try_from(offset).unwrap() + piece.len();
                        // A piece beyond the end needs the growth that has been lost.
                        if end <= octets.len() && chance() {
                            apply(&mut octets, &Change::Write(offset, piece.to_vec()));
                        }
                    }
                }
            }
        }
        Self(Arc::new(Mutex::new(Content {
            synced: octets.clone(),
            current: octets,
            ..Content::default()
        })))
    }
}

impl Content {
    /// Counts an operation, and returns the fault that happens at it.
    fn step(&mut self) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some((chosen, Fault::Error)) if number == chosen => Some(Fault::Error),
            Some((chosen, Fault::PowerCut)) if number >= chosen => Some(Fault::PowerCut),
            _ => None,
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.current, &change);
        self.unsynced.push(change);
    }
}

fn broken() -> io::Error {
    io::Error::other("the disk is broken")
}

#[derive(Debug)]
struct Handle(Disk);

impl StorageBackend for Handle {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(u64::try_from(self.0.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let mut content = self.0.content();
        if content.step().is_some() {
            return Err(broken());
        }
        let start = usize::try_from(offset).unwrap();
        let octets =
            content.current.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(octets);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut content = self.0.content();
        if content.step().is_some() {
            return Err(broken());
        }
        let wanted = usize::try_from(len).unwrap();
        if wanted > content.current.len() && content.capacity.is_some_and(|most| wanted > most) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.change(Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut content = self.0.content();
        if content.step().is_some() {
            // What a failed sync leaves is anybody's guess: it stays unsynced.
            return Err(broken());
        }
        content.synced = content.current.clone();
        content.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut content = self.0.content();
        if content.step().is_some() {
            content.change(Change::Write(offset, data[..data.len() / 2].to_vec()));
            return Err(broken());
        }
        content.change(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}
