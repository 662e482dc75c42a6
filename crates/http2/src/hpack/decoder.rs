//! Decoding a field block (RFC 7541 §3, §6) under bounds on what the peer can make us hold.

use super::Malformed;
use super::table::{DynamicTable, Entry, STATIC, STATIC_KINDS};
use super::{huffman, integer};
use crate::fields::{self, Fields, NameKind};

/// One direction's decompression state.
pub(crate) struct Decoder {
    table: DynamicTable,
    /// SETTINGS_HEADER_TABLE_SIZE that we advertised: the peer's size updates stay within it.
    max_table_size: usize,
}

impl Decoder {
    pub(crate) fn new(max_table_size: usize) -> Self {
        Self { table: DynamicTable::new(max_table_size), max_table_size }
    }

    /// The peer has acknowledged another SETTINGS_HEADER_TABLE_SIZE: its next block begins with a size update if the
    /// table is now too large (RFC 9113 §4.3.1).
    pub(crate) fn set_max_table_size(&mut self, size: usize) {
        self.max_table_size = size;
    }

    /// Decodes a whole block into `fields`, which it clears first.
    ///
    /// Fields beyond `max_list_size` octets (RFC 9113 §6.5.2) are decoded, so that the table stays in step, but not
    /// kept; `fields` then says that it is oversized.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        max_list_size: usize,
        fields: &mut Fields,
    ) -> Result<(), Malformed> {
        fields.clear(max_list_size);
        while let Some((&first, rest)) = block.split_first() {
            block = rest;
            if first & 0x80 != 0 {
                self.indexed(first, &mut block, fields)?;
            } else if first & 0xc0 == 0x40 {
                self.literal(first, 6, Literal::Indexed, &mut block, fields)?;
            } else if first & 0xe0 == 0x20 {
                self.size_update(first, &mut block, fields)?;
            } else {
                let literal = if first & 0x10 != 0 { Literal::Never } else { Literal::Plain };
                self.literal(first, 4, literal, &mut block, fields)?;
            }
        }
        if self.table.max_size() > self.max_table_size {
            return Err(Malformed("a table size update is missing (RFC 9113 §4.3.1)"));
        }
        Ok(())
    }

    /// §6.1.
    #[inline]
    fn indexed(
        &mut self,
        first: u8,
        block: &mut &[u8],
        fields: &mut Fields,
    ) -> Result<(), Malformed> {
        match integer::decode(first, 7, block)? {
            0 => Err(Malformed("an indexed field has index 0 (RFC 7541 §6.1)")),
            index @ 1..=61 => {
                let (name, value) = STATIC[index - 1];
                fields.push(name, value, STATIC_KINDS[index - 1], false);
                Ok(())
            }
            index => {
                let entry = self.entry(index)?;
                fields.push_joined(entry.octets(), entry.name().len(), entry.kind);
                Ok(())
            }
        }
    }

    /// §6.2: the name indexed or literal, the value literal.
    fn literal(
        &mut self,
        first: u8,
        bits: u8,
        literal: Literal,
        block: &mut &[u8],
        fields: &mut Fields,
    ) -> Result<(), Malformed> {
        let at = fields.start();
        let kind = match integer::decode(first, bits, block)? {
            0 => {
                string(block, fields.octets_mut())?;
                NameKind::check(&fields.octets()[at..])
            }
            index @ 1..=61 => {
                fields.octets_mut().extend_from_slice(STATIC[index - 1].0);
                STATIC_KINDS[index - 1]
            }
            index => {
                let entry = self.entry(index)?;
                fields.octets_mut().extend_from_slice(entry.name());
                // The value is a new one: what was wrong with the old does not stick to the name.
                match entry.kind {
                    NameKind::BadValue => NameKind::check(entry.name()),
                    kind => kind,
                }
            }
        };
        let value_at = fields.octets().len();
        string(block, fields.octets_mut())?;
        let kind = if fields::value_is_valid(&fields.octets()[value_at..]) {
            kind
        } else {
            kind.with_bad_value()
        };
        if literal == Literal::Indexed {
            let (name, value) = fields.octets()[at..].split_at(value_at - at);
            self.table.insert(Entry::new(name, value, kind));
        }
        fields.finish(at, value_at, kind, literal == Literal::Never);
        Ok(())
    }

    /// §6.3: only at the start of a block, only within what we advertised.
    fn size_update(
        &mut self,
        first: u8,
        block: &mut &[u8],
        fields: &Fields,
    ) -> Result<(), Malformed> {
        if !fields.is_untouched() {
            return Err(Malformed("a table size update follows a field (RFC 7541 §4.2)"));
        }
        let size = integer::decode(first, 5, block)?;
        if size > self.max_table_size {
            return Err(Malformed(
                "a table size update exceeds SETTINGS_HEADER_TABLE_SIZE (RFC 7541 §6.3)",
            ));
        }
        if size != self.table.max_size() {
            self.table.set_max_size(size);
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<&Entry, Malformed> {
        self.table
            .get(index - 62)
            .ok_or(Malformed("an index lies beyond the dynamic table (RFC 7541 §2.3.3)"))
    }
}

/// The three kinds of literal fields (§6.2.1, §6.2.2, §6.2.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    Indexed,
    Plain,
    Never,
}

/// Appends a string literal's text to `out` (§5.2).
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    const SHORT: Malformed = Malformed("a header block ends within a string (RFC 7541 §5.2)");
    let Some((&first, rest)) = block.split_first() else { return Err(SHORT) };
    *block = rest;
    let len = integer::decode(first, 7, block)?;
    let Some((text, rest)) = block.split_at_checked(len) else { return Err(SHORT) };
    *block = rest;
    if first & 0x80 != 0 {
        return huffman::decode(text, out);
    }
    out.extend_from_slice(text);
    Ok(())
}
