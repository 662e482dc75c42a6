//! Custom metadata (PROTOCOL-HTTP2.md, "Custom-Metadata"): keys and values as the application sees them, `-bin` values
//! already decoded.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;

/// Values go out without padding and are taken with or without it, as the specification asks.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Key-value pairs in their order; a key may occur more than once.
///
/// All lie in one buffer: a call with ten pairs costs two allocations, one with none costs nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    octets: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<(u32, u32)>,
}

/// Metadata that must not be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InvalidMetadata {
    /// The key is empty or has characters other than `0-9 a-z _ - .`.
    Key,
    /// The name belongs to the transport.
    ReservedKey,
    /// The value of a key without `-bin` has other characters than printable ASCII.
    Value,
}

impl fmt::Display for InvalidMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a metadata key consists of 0-9, a-z, '_', '-' and '.'",
            Self::ReservedKey => "a metadata key belongs to the transport",
            Self::Value => "a metadata value is printable ASCII unless its key ends in '-bin'",
        })
    }
}

impl std::error::Error for InvalidMetadata {}

/// Whether values of this key are binary.
pub fn is_binary(key: &[u8]) -> bool {
    key.ends_with(b"-bin")
}

impl Metadata {
    /// No metadata.
    pub const fn new() -> Self {
        Self { octets: Vec::new(), ends: Vec::new() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Octets of memory that the pairs take up.
    pub fn memory(&self) -> usize {
        self.octets.capacity() + self.ends.capacity() * size_of::<(u32, u32)>()
    }

    /// Adds a pair that is to be sent. Fields that the engine writes itself are left out without a word, as grpcio
    /// does with them.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), InvalidMetadata> {
        let is_key = |octet: &u8| matches!(octet, b'0'..=b'9' | b'a'..=b'z' | b'_' | b'-' | b'.');
        if key.is_empty() || !key.iter().all(is_key) {
            return Err(InvalidMetadata::Key);
        }
        if !is_binary(key) && !value.iter().all(|octet| matches!(octet, b' '..=b'~')) {
            return Err(InvalidMetadata::Value);
        }
        match owner(key) {
            Owner::Application => self.push_unchecked(key, value),
            Owner::Engine => {}
            Owner::Http => return Err(InvalidMetadata::ReservedKey),
        }
        Ok(())
    }

    /// Adds a pair as it is.
    pub(crate) fn push_unchecked(&mut self, key: &[u8], value: &[u8]) {
        self.octets.extend_from_slice(key);
        let key_end = self.octets.len() as u32;
        self.octets.extend_from_slice(value);
        self.ends.push((key_end, self.octets.len() as u32));
    }

    /// Adds a pair that was received. Several binary values may be joined with commas. `false`: it is not base64.
    pub(crate) fn push_received(&mut self, key: &[u8], value: &[u8]) -> bool {
        if !is_binary(key) {
            self.push_unchecked(key, value.trim_ascii());
            return true;
        }
        value.split(|&octet| octet == b',').all(|part| {
            let at = self.octets.len();
            self.octets.extend_from_slice(key);
            let key_end = self.octets.len() as u32;
            if BASE64.decode_vec(part.trim_ascii(), &mut self.octets).is_err() {
                self.octets.truncate(at);
                return false;
            }
            self.ends.push((key_end, self.octets.len() as u32));
            true
        })
    }

    /// The pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut at = 0;
        self.ends.iter().map(move |&(key_end, end)| {
            let pair =
                (&self.octets[at..key_end as usize], &self.octets[key_end as usize..end as usize]);
            at = end as usize;
            pair
        })
    }

    /// The first value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    /// The octets of a value on the wire.
    pub(crate) fn wire_value(key: &[u8], value: &[u8]) -> Option<String> {
        is_binary(key).then(|| BASE64.encode(value))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |octets: &[u8]| octets.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(key, value)| (text(key), text(value)))).finish()
    }
}

/// Who a field's name belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The application, in both directions.
    Application,
    /// The engine writes it and reads it.
    Engine,
    /// It means something to HTTP and must not be sent.
    Http,
}

/// Tells metadata from the protocol's own fields.
pub(crate) fn owner(key: &[u8]) -> Owner {
    match key {
        b"te"
        | b"content-type"
        | b"content-length"
        | b"user-agent"
        | b"grpc-timeout"
        | b"grpc-encoding"
        | b"grpc-accept-encoding"
        | b"grpc-status"
        | b"grpc-message"
        | b"grpc-message-type" => Owner::Engine,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade"
        | b"host" => Owner::Http,
        _ => Owner::Application,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(metadata: &Metadata) -> Vec<(Vec<u8>, Vec<u8>)> {
        metadata.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn keys_and_values_are_checked() {
        let mut metadata = Metadata::new();
        assert_eq!(metadata.push(b"Upper", b""), Err(InvalidMetadata::Key));
        assert_eq!(metadata.push(b"", b""), Err(InvalidMetadata::Key));
        assert_eq!(metadata.push(b":path", b""), Err(InvalidMetadata::Key));
        assert_eq!(metadata.push(b"key", b"a\nb"), Err(InvalidMetadata::Value));
        assert_eq!(metadata.push(b"key", "é".as_bytes()), Err(InvalidMetadata::Value));
        assert_eq!(metadata.push(b"connection", b"close"), Err(InvalidMetadata::ReservedKey));
        assert_eq!(metadata.push(b"te", b"gzip"), Ok(()));
        assert!(metadata.is_empty());
        metadata.push(b"key-bin", b"\0\xff").unwrap();
        metadata.push(b"grpc-foo", b"passes").unwrap();
        assert_eq!(metadata.len(), 2);
        assert_eq!(metadata.get(b"key-bin"), Some(&b"\0\xff"[..]));
    }

    #[test]
    fn binary_values_come_padded_or_not_and_joined() {
        let mut metadata = Metadata::new();
        assert!(metadata.push_received(b"a-bin", b"AQ==,AQ, Ag"));
        assert!(!metadata.push_received(b"a-bin", b"*"));
        let value = |octet: u8| (b"a-bin".to_vec(), vec![octet]);
        assert_eq!(pairs(&metadata), [value(1), value(1), value(2)]);
    }

    proptest! {
        #[test]
        fn any_binary_value_survives(value: Vec<u8>) {
            let wire = Metadata::wire_value(b"k-bin", &value).unwrap();
            let mut metadata = Metadata::new();
            prop_assert!(metadata.push_received(b"k-bin", wire.as_bytes()));
            prop_assert_eq!(pairs(&metadata), [(b"k-bin".to_vec(), value)]);
        }
    }
}
