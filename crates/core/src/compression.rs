//! Message compression (gRPC compression.md): gzip and deflate, each message on its own, inflated under a bound.

use flate2::Compression;
use flate2::bufread::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{self, Read, Write};

/// A message encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encoding {
    /// None.
    #[default]
    Identity,
    /// The zlib format (RFC 1950), which gRPC calls deflate.
    Deflate,
    /// gzip (RFC 1952).
    Gzip,
}

/// `grpc-accept-encoding`: all that we take.
pub(crate) const ACCEPTED: &[u8] = b"identity, deflate, gzip";

/// The encodings that a peer reads, apart from none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Accepts(u8);

impl Accepts {
    /// Reads `grpc-accept-encoding`. A peer that does not send it reads nothing but what is not encoded.
    pub(crate) fn from_wire(names: &[u8]) -> Self {
        let names = names.split(|&octet| octet == b',').map(<[u8]>::trim_ascii);
        let bits = names.filter_map(Encoding::from_wire).map(|encoding| 1 << encoding as u8);
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// The encoding, if the peer reads it; otherwise none.
    pub(crate) fn or_identity(self, encoding: Encoding) -> Encoding {
        if self.0 & 1 << encoding as u8 == 0 { Encoding::Identity } else { encoding }
    }
}

/// What keeps a compressed message from being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InflateError {
    /// It inflates to more than the bound.
    TooLarge,
    /// It is not in the encoding's format.
    Corrupt,
}

impl Encoding {
    /// Reads `grpc-encoding`.
    pub(crate) fn from_wire(name: &[u8]) -> Option<Self> {
        match name {
            b"identity" => Some(Self::Identity),
            b"deflate" => Some(Self::Deflate),
            b"gzip" => Some(Self::Gzip),
            _ => None,
        }
    }

    /// The name in `grpc-encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Deflate => "deflate",
            Self::Gzip => "gzip",
        }
    }

    /// The message compressed; `None` where that would not make it shorter.
    pub(crate) fn compress(self, message: &[u8]) -> Option<Vec<u8>> {
        let level = Compression::default();
        let out = Vec::with_capacity(message.len() / 2 + 64);
        let out = match self {
            Self::Identity => return None,
            Self::Deflate => finish(ZlibEncoder::new(out, level), message, ZlibEncoder::finish),
            Self::Gzip => finish(GzEncoder::new(out, level), message, GzEncoder::finish),
        };
        out.ok().filter(|out| out.len() < message.len())
    }

    /// The message inflated, to at most `max` octets.
    pub(crate) fn inflate(self, message: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        match self {
            Self::Identity => Err(InflateError::Corrupt),
            Self::Deflate => read(ZlibDecoder::new(message), message.len(), max),
            Self::Gzip => read(GzDecoder::new(message), message.len(), max),
        }
    }
}

fn finish<E: Write>(
    mut encoder: E,
    message: &[u8],
    finish: impl FnOnce(E) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    encoder.write_all(message)?;
    finish(encoder)
}

/// Reads up to one octet more than `max`, growing as the text comes: what a bomb claims costs nothing.
fn read(decoder: impl Read, len: usize, max: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::with_capacity(len.saturating_mul(2).min(max).min(64 << 10));
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.take(bound).read_to_end(&mut out) {
        Ok(_) if out.len() > max => Err(InflateError::TooLarge),
        Ok(_) => Ok(out),
        Err(_) => Err(InflateError::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_shrink_is_not_compressed() {
        assert_eq!(Encoding::Gzip.compress(b"abc"), None);
        assert_eq!(Encoding::Identity.compress(&[0; 1000]), None);
        assert!(Encoding::Deflate.compress(&[0; 1000]).unwrap().len() < 100);
    }

    #[test]
    fn a_bomb_goes_off_within_its_bound() {
        let bomb = Encoding::Gzip.compress(&vec![0; 10 << 20]).unwrap();
        assert!(bomb.len() < 20_000);
        assert_eq!(Encoding::Gzip.inflate(&bomb, 1 << 20), Err(InflateError::TooLarge));
        assert_eq!(Encoding::Gzip.inflate(&bomb, 10 << 20).unwrap().len(), 10 << 20);
    }

    #[test]
    fn truncated_and_foreign_texts_are_corrupt() {
        let gzip = Encoding::Gzip.compress(&[7; 1000]).unwrap();
        assert_eq!(
            Encoding::Gzip.inflate(&gzip[..gzip.len() - 9], 2000),
            Err(InflateError::Corrupt)
        );
        assert_eq!(Encoding::Deflate.inflate(&gzip, 2000), Err(InflateError::Corrupt));
        assert_eq!(Encoding::Identity.inflate(b"x", 2000), Err(InflateError::Corrupt));
    }

    proptest! {
        #[test]
        fn any_message_survives(octet: u8, len in 100usize..5000) {
            let message = vec![octet; len];
            for encoding in [Encoding::Deflate, Encoding::Gzip] {
                let wire = encoding.compress(&message).unwrap();
                prop_assert_eq!(encoding.inflate(&wire, len).unwrap(), message.clone());
            }
        }
    }
}
