//! HPACK, the compression of field sections (RFC 7541).

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod table;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
pub use encoder::{Indexing, Prepared};

/// Octets of the dynamic table before any SETTINGS (RFC 9113 §6.5.2), and what our encoder uses at most.
pub(crate) const DEFAULT_TABLE_SIZE: usize = 4096;

/// What RFC 7541 §4.1 adds to each entry's length.
pub(crate) const ENTRY_OVERHEAD: usize = 32;

/// A block that cannot be decoded: a connection error of type COMPRESSION_ERROR (RFC 9113 §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);
