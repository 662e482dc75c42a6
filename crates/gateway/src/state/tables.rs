//! The tables in which a store keeps state, and how a transaction changes them. Whoever holds the database decides when it
//! is durable and which revision a transaction has; the same transactions at the same times give the same tables.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::{Condition, Entry, Keys, Write};

type Octets = &'static [u8];

/// Service, NUL, key: the revision (8 octets), when it expires (8, milliseconds since 1970, 0 for never), the value.
const VALUES: TableDefinition<'_, Octets, Octets> = TableDefinition::new("values");
/// Service, NUL, key of all registered keys.
const REGISTERED: TableDefinition<'_, Octets, ()> = TableDefinition::new("registered");
/// When (8 octets, big-endian), then the key in `VALUES` that expires.
const EXPIRIES: TableDefinition<'_, Octets, ()> = TableDefinition::new("expiries");
/// Numbers about the whole: the last revision, the format.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// The format that this code reads and writes.
const CURRENT_FORMAT: u64 = 1;
const HEADER_BYTES: usize = 16;
/// What each entry costs beyond key and value in a message that holds many.
const ENTRY_BYTES: usize = 16;

fn path(service: &str, key: &str) -> Vec<u8> {
    [service.as_bytes(), b"\0", key.as_bytes()].concat()
}

/// Returns milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the etags of the writes of one transaction.
pub(super) fn etags(writes: &[Write], revision: u64) -> Vec<Option<String>> {
    writes.iter().map(|write| write.value.as_ref().map(|_| revision.to_string())).collect()
}

fn number(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

/// A record of `VALUES`, borrowed.
struct Record<'r> {
    revision: u64,
    expires: u64,
    value: &'r [u8],
}

impl<'r> Record<'r> {
    fn read(octets: &'r [u8]) -> Result<Self, redb::Error> {
        if octets.len() < HEADER_BYTES {
            return Err(redb::Error::Corrupted("a record without its header".into()));
        }
        let (header, value) = octets.split_at(HEADER_BYTES);
        Ok(Self { revision: number(&header[..8]), expires: number(&header[8..]), value })
    }

    fn is_live(&self, now: u64) -> bool {
        self.expires == 0 || self.expires > now
    }

    fn entry(&self) -> Entry {
        Entry {
            value: Bytes::copy_from_slice(self.value),
            etag: self.revision.to_string(),
            expires: (self.expires != 0).then(|| UNIX_EPOCH + Duration::from_millis(self.expires)),
        }
    }
}

/// Makes sure that the tables exist. A new database begins with `first_revision`.
pub(super) fn prepare(
    transaction: &WriteTransaction,
    first_revision: u64,
) -> Result<(), redb::Error> {
    transaction.open_table(VALUES)?;
    transaction.open_table(REGISTERED)?;
    transaction.open_table(EXPIRIES)?;
    let mut counters = transaction.open_table(COUNTERS)?;
    let format = counters.get(FORMAT)?.map(|format| format.value());
    if let Some(format) = format
        && format != CURRENT_FORMAT
    {
        return Err(redb::Error::Corrupted(format!(
            "format {format} is not known here, only {CURRENT_FORMAT}: it was written by another version of oxgrpc"
        )));
    }
    if format.is_none() {
        counters.insert(FORMAT, CURRENT_FORMAT)?;
        counters.insert(REVISION, first_revision)?;
    }
    Ok(())
}

/// The tables, open for writing within one database transaction.
pub(super) struct Tables<'t> {
    values: Table<'t, Octets, Octets>,
    registered: Table<'t, Octets, ()>,
    expiries: Table<'t, Octets, ()>,
    counters: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            values: transaction.open_table(VALUES)?,
            registered: transaction.open_table(REGISTERED)?,
            expiries: transaction.open_table(EXPIRIES)?,
            counters: transaction.open_table(COUNTERS)?,
        })
    }

    /// Writes all or nothing: returns the key of the first condition that does not hold.
    pub(super) fn apply(
        &mut self,
        service: &str,
        writes: &[Write],
        now: u64,
        revision: u64,
    ) -> Result<Result<(), String>, redb::Error> {
        for write in writes {
            if !self.holds(service, write, now)? {
                return Ok(Err(write.key.clone()));
            }
        }
        for write in writes {
            let path = path(service, &write.key);
            self.remove(&path)?;
            let Some(value) = &write.value else { continue };
            let expires = write.ttl.map_or(0, |ttl| {
                now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
            });
            self.put(&path, revision, expires, value)?;
        }
        self.counters.insert(REVISION, revision)?;
        Ok(Ok(()))
    }

    fn holds(&self, service: &str, write: &Write, now: u64) -> Result<bool, redb::Error> {
        if write.condition == Condition::Always {
            return Ok(true);
        }
        let stored = self.values.get(path(service, &write.key).as_slice())?;
        let live = match &stored {
            Some(octets) => {
                Some(Record::read(octets.value())?).filter(|record| record.is_live(now))
            }
            None => None,
        };
        Ok(match (&write.condition, live) {
            (Condition::Match(etag), Some(record)) => *etag == record.revision.to_string(),
            (Condition::Match(_), None) => false,
            (Condition::Absent, live) => live.is_none(),
            (Condition::Always, _) => true,
        })
    }

    fn put(
        &mut self,
        path: &[u8],
        revision: u64,
        expires: u64,
        value: &[u8],
    ) -> Result<(), redb::Error> {
        {
            let mut place = self.values.insert_reserve(path, HEADER_BYTES + value.len())?;
            let place = place.as_mut();
            place[..8].copy_from_slice(&revision.to_be_bytes());
            place[8..HEADER_BYTES].copy_from_slice(&expires.to_be_bytes());
            place[HEADER_BYTES..].copy_from_slice(value);
        }
        if expires != 0 {
            self.expiries.insert([&expires.to_be_bytes(), path].concat().as_slice(), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), redb::Error> {
        let expires = match self.values.remove(path)? {
            Some(octets) => Record::read(octets.value())?.expires,
            None => 0,
        };
        if expires != 0 {
            self.expiries.remove([&expires.to_be_bytes(), path].concat().as_slice())?;
        }
        Ok(())
    }

    pub(super) fn register(&mut self, service: &str, keys: &[String]) -> Result<(), redb::Error> {
        for key in keys {
            self.registered.insert(path(service, key).as_slice(), ())?;
        }
        Ok(())
    }

    /// Removes up to `limit` values that have expired, and returns how many.
    pub(super) fn sweep(&mut self, now: u64, limit: usize) -> Result<usize, redb::Error> {
        let end = now.saturating_add(1).to_be_bytes();
        let expired = self
            .expiries
            .range(..end.as_slice())?
            .take(limit)
            .map(|expiry| Ok(expiry?.0.value().to_vec()))
            .collect::<Result<Vec<_>, redb::Error>>()?;
        for expiry in &expired {
            self.remove(&expiry[8..])?;
        }
        Ok(expired.len())
    }

    /// Returns the revision of the last transaction.
    pub(super) fn revision(&self) -> Result<u64, redb::Error> {
        Ok(self.counters.get(REVISION)?.map_or(0, |revision| revision.value()))
    }
}

/// The tables as of one moment.
pub(super) struct View(ReadTransaction);

impl View {
    pub(super) fn of(database: &redb::Database) -> Result<Self, redb::Error> {
        Ok(Self(database.begin_read()?))
    }

    /// Returns when the next value expires.
    pub(super) fn next_expiry(&self) -> Result<Option<u64>, redb::Error> {
        let expiries = self.0.open_table(EXPIRIES)?;
        Ok(expiries.first()?.map(|(expiry, _)| number(&expiry.value()[..8])))
    }

    pub(super) fn get(
        &self,
        service: &str,
        key: &str,
        now: u64,
    ) -> Result<Option<Entry>, redb::Error> {
        let values = self.0.open_table(VALUES)?;
        let Some(octets) = values.get(path(service, key).as_slice())? else { return Ok(None) };
        let record = Record::read(octets.value())?;
        Ok(record.is_live(now).then(|| record.entry()))
    }

    pub(super) fn registered(&self, service: &str) -> Result<Vec<String>, redb::Error> {
        let start = path(service, "");
        let registered = self.0.open_table(REGISTERED)?;
        let mut keys = Vec::new();
        for item in registered.range(start.as_slice()..)? {
            let (path, _) = item?;
            let Some(key) = path.value().strip_prefix(start.as_slice()) else { break };
            keys.push(text(key)?);
        }
        Ok(keys)
    }

    /// Returns all live entries of a service, or `None` if keys and values together exceed `max_bytes`.
    pub(super) fn entries(
        &self,
        service: &str,
        max_bytes: usize,
        now: u64,
    ) -> Result<Option<Vec<(String, Entry)>>, redb::Error> {
        let start = path(service, "");
        let values = self.0.open_table(VALUES)?;
        let mut entries = Vec::new();
        let mut total = 0;
        for item in values.range(start.as_slice()..)? {
            let (path, octets) = item?;
            let Some(key) = path.value().strip_prefix(start.as_slice()) else { break };
            let record = Record::read(octets.value())?;
            if record.is_live(now) {
                total += key.len() + record.value.len() + ENTRY_BYTES;
                if total > max_bytes {
                    return Ok(None);
                }
                entries.push((text(key)?, record.entry()));
            }
        }
        Ok(Some(entries))
    }

    pub(super) fn list_keys(
        &self,
        service: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: u64,
    ) -> Result<Keys, redb::Error> {
        let service_start = path(service, "");
        let start = path(service, prefix);
        // Octets after `after` and no others: the least string that follows it is itself and a NUL.
        let from = match after {
            Some(after) => start.clone().max([&path(service, after)[..], b"\0"].concat()),
            None => start.clone(),
        };
        let values = self.0.open_table(VALUES)?;
        let mut page = Keys::default();
        for item in values.range(from.as_slice()..)? {
            let (path, octets) = item?;
            if !path.value().starts_with(&start) {
                break;
            }
            if !Record::read(octets.value())?.is_live(now) {
                continue;
            }
            if page.keys.len() == limit.max(1) {
                page.next = page.keys.last().cloned();
                break;
            }
            page.keys.push(text(&path.value()[service_start.len()..])?);
        }
        Ok(page)
    }
}

fn text(octets: &[u8]) -> Result<String, redb::Error> {
    String::from_utf8(octets.to_vec())
        .map_err(|_| redb::Error::Corrupted("a key that is not UTF-8".into()))
}
