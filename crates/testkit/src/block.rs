//! Field blocks, built and read by hand or by an HPACK implementation that is not ours (RFC 7541).

/// A field block of literals that leave the dynamic table alone.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

/// One such literal, of any octets.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    literal(0x00, name, value)
}

/// A literal that enters the dynamic table (§6.2.1).
pub fn indexing(name: &[u8], value: &[u8]) -> Vec<u8> {
    literal(0x40, name, value)
}

/// A literal that no one may index (§6.2.3).
pub fn never_indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    literal(0x10, name, value)
}

/// A field that is named by its index alone (§6.1).
pub fn indexed(index: usize) -> Vec<u8> {
    integer(index, 7, 0x80)
}

/// A dynamic table size update (§6.3).
pub fn size_update(octets: usize) -> Vec<u8> {
    integer(octets, 5, 0x20)
}

fn literal(pattern: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[pattern][..], &string(name), &string(value)].concat()
}

/// A string literal, not Huffman-coded (§5.2).
pub fn string(text: &[u8]) -> Vec<u8> {
    [&integer(text.len(), 7, 0), text].concat()
}

/// An integer with a prefix of `bits` bits; `pattern` fills the first octet's other bits (§5.1).
pub fn integer(value: usize, bits: u8, pattern: u8) -> Vec<u8> {
    let max = (1 << bits) - 1;
    if value < max {
        return vec![pattern | value as u8];
    }
    let mut out = vec![pattern | max as u8];
    let mut rest = value - max;
    while rest >= 128 {
        out.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    out.push(rest as u8);
    out
}

/// Reads field blocks, one after the other, with an HPACK implementation that is not ours.
#[derive(Default)]
pub struct BlockReader(fluke_hpack::Decoder<'static>);

impl BlockReader {
    /// A reader that refuses size updates above `octets`.
    pub fn with_table_of(octets: usize) -> Self {
        let mut reader = Self::default();
        reader.0.set_max_table_size(octets);
        reader.0.set_max_allowed_table_size(octets);
        reader
    }

    /// The fields of one block, as text.
    pub fn read(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        let fields = self.read_octets(block).expect("a valid block");
        fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The fields of one block, as they are; `None` where it is broken.
    pub fn read_octets(&mut self, block: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        self.0.decode(block).ok()
    }
}

/// Writes field blocks, one after the other, with an HPACK implementation that is not ours. It indexes each name once.
#[derive(Default)]
pub struct BlockWriter(fluke_hpack::Encoder<'static>);

impl BlockWriter {
    /// Changes the table's size and returns the update that announces it.
    pub fn resize(&mut self, octets: usize) -> Vec<u8> {
        self.0.set_max_table_size(octets);
        size_update(octets)
    }

    /// One block.
    pub fn write(&mut self, fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        self.0.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_literals_are_read_back() {
        let long = "x".repeat(1000);
        let fields = BlockReader::default().read(&block(&[("name", &long), ("b", "")]));
        assert_eq!(fields, [("name".into(), long), ("b".into(), String::new())]);
    }

    #[test]
    fn indexed_fields_are_read_back() {
        let mut reader = BlockReader::default();
        let block = [size_update(100), indexing(b"a", b"1"), indexed(62), never_indexed(b"b", b"")];
        let fields = reader.read(&block.concat());
        assert_eq!(fields, [("a", "1"), ("a", "1"), ("b", "")].map(|(n, v)| (n.into(), v.into())));
    }
}
