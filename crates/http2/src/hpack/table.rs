//! The static table (RFC 7541 Appendix A) and the dynamic one (§2.3.2, §4).

use super::ENTRY_OVERHEAD;
use crate::fields::NameKind;
use std::collections::VecDeque;

/// The static table; index 1 of the wire is index 0 here.
#[rustfmt::skip]
pub(super) const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"),
    (b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"),
    (b":status", b"204"), (b":status", b"206"), (b":status", b"304"), (b":status", b"400"),
    (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""),
    (b"accept", b""), (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""),
    (b"authorization", b""), (b"cache-control", b""), (b"content-disposition", b""),
    (b"content-encoding", b""), (b"content-language", b""), (b"content-length", b""),
    (b"content-location", b""), (b"content-range", b""), (b"content-type", b""), (b"cookie", b""),
    (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""),
    (b"if-range", b""), (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""),
    (b"location", b""), (b"max-forwards", b""), (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""), (b"range", b""), (b"referer", b""), (b"refresh", b""),
    (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""),
    (b"vary", b""), (b"via", b""), (b"www-authenticate", b""),
];

/// The kinds of the static names, so that an indexed field is classified without a look at its name.
pub(super) static STATIC_KINDS: [NameKind; 61] = {
    let mut kinds = [NameKind::Regular; 61];
    let mut i = 0;
    while i < 61 {
        kinds[i] = NameKind::of(STATIC[i].0);
        i += 1;
    }
    kinds
};

/// One field of the dynamic table.
pub(super) struct Entry {
    octets: Box<[u8]>,
    name_len: usize,
    /// The encoder's hashes of the name and of the whole field; the decoder leaves them 0.
    pub(super) name_hash: u32,
    pub(super) field_hash: u32,
    /// What the decoder found out about the name, so that it need not look again.
    pub(super) kind: NameKind,
}

impl Entry {
    pub(super) fn new(name: &[u8], value: &[u8], kind: NameKind) -> Self {
        let octets = [name, value].concat().into_boxed_slice();
        Self { octets, name_len: name.len(), name_hash: 0, field_hash: 0, kind }
    }

    /// The name and the value, one behind the other.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.octets[..self.name_len]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.octets[self.name_len..]
    }

    fn size(&self) -> usize {
        self.octets.len() + ENTRY_OVERHEAD
    }
}

/// The dynamic table: a queue of fields, the newest at index 0, bounded by its size in octets.
pub(super) struct DynamicTable {
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
    /// Changes whenever an index may come to mean another field.
    epoch: u64,
}

impl DynamicTable {
    pub(super) fn new(max_size: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, max_size, epoch: 1 }
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    /// Whether a field of this length fits into the table at all.
    pub(super) fn holds(&self, field_len: usize) -> bool {
        field_len + ENTRY_OVERHEAD <= self.max_size
    }

    /// Adds a field, evicting old ones; one larger than the table empties it (§4.4).
    pub(super) fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.epoch += 1;
        self.evict_to(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.epoch += 1;
        self.max_size = max_size;
        self.evict_to(max_size);
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.size();
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], value: &[u8]) -> Entry {
        Entry::new(name, value, NameKind::Regular)
    }

    #[test]
    fn the_oldest_make_room() {
        let mut table = DynamicTable::new(100);
        table.insert(entry(b"a", b"1")); // 34
        table.insert(entry(b"b", b"2")); // 68
        table.insert(entry(b"c", b"3")); // evicts a
        assert_eq!(table.size(), 68);
        assert_eq!(table.get(0).unwrap().name(), b"c");
        assert_eq!(table.get(1).unwrap().name(), b"b");
        assert!(table.get(2).is_none());
    }

    #[test]
    fn a_field_larger_than_the_table_empties_it() {
        let mut table = DynamicTable::new(70);
        table.insert(entry(b"a", b"1"));
        table.insert(entry(b"name", &[b'x'; 60]));
        assert_eq!(table.size(), 0);
        assert!(table.get(0).is_none());
    }

    #[test]
    fn shrinking_evicts() {
        let mut table = DynamicTable::new(100);
        table.insert(entry(b"a", b"1"));
        table.insert(entry(b"b", b"2"));
        table.set_max_size(40);
        assert_eq!(table.get(0).unwrap().name(), b"b");
        assert!(table.get(1).is_none());
    }
}
