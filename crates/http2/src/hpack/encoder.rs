//! Encoding field sections (RFC 7541 §6).
//!
//! gRPC sends the same few fields over and over, so what is encoded often is [`Prepared`]: as long as the dynamic table
//! has not changed, its encoding is a copy of a dozen octets.

use super::table::{DynamicTable, Entry, STATIC};
use super::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD, huffman, integer};
use crate::fields::NameKind;
use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;

/// How a field goes into the dynamic table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indexing {
    /// Into the table at once: the field will come again.
    Always,
    /// Into the table when it has been seen twice: it may come again, or vary with each call.
    WhenRepeated,
    /// Not into the table: it varies with each call.
    Literal,
    /// Not into the table, here or at any intermediary: it is a secret (§7.1.3).
    Never,
}

/// Fields that are encoded often on one connection, with their last encoding.
#[derive(Debug, Default)]
pub struct Prepared {
    fields: Vec<OwnedField>,
    encoded: Vec<u8>,
    /// The table's epoch that `encoded` is true for; 0 is none.
    epoch: u64,
}

/// A name and its value.
type OwnedField = (Box<[u8]>, Box<[u8]>);

impl Prepared {
    /// Prepares `fields`, in this order.
    pub fn new<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { fields, encoded: Vec::new(), epoch: 0 }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The size as RFC 9113 §6.5.2 counts it, in octets.
    pub(crate) fn list_size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + ENTRY_OVERHEAD).sum()
    }
}

/// One direction's compression state.
pub(crate) struct Encoder {
    table: DynamicTable,
    hasher: DefaultHashBuilder,
    /// Sizes to announce before the next block (§4.2): the least that was set since, and the last.
    size_update: Option<(usize, usize)>,
    /// Hashes of fields that were lately sent as literals: what is found here again is worth indexing.
    seen: [u32; Self::SEEN],
}

impl Encoder {
    const SEEN: usize = 64;

    pub(crate) fn new() -> Self {
        Self {
            table: DynamicTable::new(DEFAULT_TABLE_SIZE),
            hasher: DefaultHashBuilder::default(),
            size_update: None,
            seen: [0; Self::SEEN],
        }
    }

    /// Takes over the peer's SETTINGS_HEADER_TABLE_SIZE; we never use more than [`DEFAULT_TABLE_SIZE`].
    pub(crate) fn set_max_table_size(&mut self, size: u32) {
        let size = (size as usize).min(DEFAULT_TABLE_SIZE);
        let least = self.size_update.map_or(self.table.max_size(), |(least, _)| least);
        if size == self.table.max_size() && self.size_update.is_none() {
            return;
        }
        self.size_update = Some((least.min(size), size));
        self.table.set_max_size(size);
    }

    /// Begins a block: announces changes of the table's size.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((least, last)) = self.size_update.take() {
            if least < last {
                integer::encode(least, 5, 0x20, out);
            }
            integer::encode(last, 5, 0x20, out);
        }
    }

    /// Appends the prepared fields.
    pub(crate) fn prepared(&mut self, prepared: &mut Prepared, out: &mut Vec<u8>) {
        let epoch = self.table.epoch();
        if prepared.epoch == epoch {
            out.extend_from_slice(&prepared.encoded);
            return;
        }
        let at = out.len();
        for (name, value) in &prepared.fields {
            self.field(name, value, Indexing::Always, out);
        }
        if self.table.epoch() == epoch {
            prepared.encoded.clear();
            prepared.encoded.extend_from_slice(&out[at..]);
            prepared.epoch = epoch;
        }
    }

    /// Appends one field.
    pub(crate) fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        indexing: Indexing,
        out: &mut Vec<u8>,
    ) {
        let name_hash = self.hasher.hash_one(name) as u32;
        let field_hash = self.hasher.hash_one((name_hash, value)) as u32;
        let name_index = match self.find(name, value, name_hash, field_hash) {
            Found::Field(index) if indexing != Indexing::Never => {
                integer::encode(index, 7, 0x80, out);
                return;
            }
            Found::Field(index) | Found::Name(index) => index,
            Found::Nothing => 0,
        };
        let insert = self.table.holds(name.len() + value.len())
            && match indexing {
                Indexing::Always => true,
                Indexing::WhenRepeated => self.is_repeated(field_hash),
                Indexing::Literal | Indexing::Never => false,
            };
        match indexing {
            Indexing::Never => integer::encode(name_index, 4, 0x10, out),
            _ if insert => integer::encode(name_index, 6, 0x40, out),
            _ => integer::encode(name_index, 4, 0x00, out),
        }
        if name_index == 0 {
            string(name, out);
        }
        string(value, out);
        if insert {
            let mut entry = Entry::new(name, value, NameKind::Regular);
            entry.name_hash = name_hash;
            entry.field_hash = field_hash;
            self.table.insert(entry);
        }
    }

    fn is_repeated(&mut self, hash: u32) -> bool {
        let place = &mut self.seen[hash as usize % Self::SEEN];
        let repeated = *place == hash;
        *place = hash;
        repeated
    }

    /// The best index for a field. The table has at most a hundred-odd entries and is only searched when a field is
    /// not part of a valid [`Prepared`]: a scan over the hashes is as good as a map.
    fn find(&self, name: &[u8], value: &[u8], name_hash: u32, field_hash: u32) -> Found {
        let mut found = Found::Nothing;
        for (i, entry) in self.table.iter().enumerate() {
            if entry.field_hash == field_hash && entry.name() == name && entry.value() == value {
                return Found::Field(62 + i);
            }
            if matches!(found, Found::Nothing)
                && entry.name_hash == name_hash
                && entry.name() == name
            {
                found = Found::Name(62 + i);
            }
        }
        for (i, (static_name, static_value)) in STATIC.iter().enumerate() {
            if *static_name == name {
                if *static_value == value {
                    return Found::Field(i + 1);
                }
                if !matches!(found, Found::Name(1..=61)) {
                    found = Found::Name(i + 1);
                }
            }
        }
        found
    }
}

enum Found {
    Field(usize),
    Name(usize),
    Nothing,
}

/// Appends a string literal, Huffman-coded where that is shorter (§5.2).
fn string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        integer::encode(coded, 7, 0x80, out);
        huffman::encode(text, out);
    } else {
        integer::encode(text.len(), 7, 0x00, out);
        out.extend_from_slice(text);
    }
}
