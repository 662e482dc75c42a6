//! Frames (RFC 9113 §4 and §6): one file a type, each with `parse` and `write`.
//!
//! A parser checks what the frame alone can tell: its size, its stream id, its padding. What depends on the state of
//! a stream or the connection is decided in `receive`.

pub(crate) mod data;
pub(crate) mod goaway;
pub(crate) mod headers;
pub(crate) mod ping;
pub(crate) mod priority;
pub(crate) mod reset;
pub(crate) mod settings;
pub(crate) mod window_update;

use crate::error::{ErrorCode, Fault};

/// The nine octets before every payload (§4.1).
pub(crate) const HEAD_LEN: usize = 9;

/// SETTINGS_MAX_FRAME_SIZE before any SETTINGS arrive, and its least value (§6.5.2).
pub(crate) const MIN_MAX_FRAME_SIZE: u32 = 1 << 14;
/// The greatest value of SETTINGS_MAX_FRAME_SIZE (§6.5.2).
pub(crate) const MAX_MAX_FRAME_SIZE: u32 = (1 << 24) - 1;

/// Frame types (§6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
}

/// Frame flags (§6). The same bit means different things on different types.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// A frame's head (§4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) len: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    /// Reads a head. The reserved bit of the stream id is ignored (§4.1).
    pub(crate) fn parse(octets: &[u8; HEAD_LEN]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *octets;
        Self {
            len: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    /// Appends the head to `out`.
    #[inline]
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let [_, a, b, c] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[a, b, c, self.kind, self.flags, s0, s1, s2, s3]);
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The stream id of a frame that must belong to a stream (§5.1.1).
    pub(crate) fn stream_id(self, rule: &'static str) -> Result<u32, Fault> {
        match self.stream {
            0 => Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, rule)),
            id => Ok(id),
        }
    }

    /// Refuses a stream id on a frame of the whole connection.
    pub(crate) fn no_stream(self, rule: &'static str) -> Result<(), Fault> {
        match self.stream {
            0 => Ok(()),
            _ => Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, rule)),
        }
    }
}

/// Strips the padding of DATA and HEADERS (§6.1, §6.2): what is left is the frame's content.
pub(crate) fn strip_padding(head: Head, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let Some((&padding, content)) = payload.split_first() else {
        return Err(Fault::connection(
            ErrorCode::FRAME_SIZE_ERROR,
            "a PADDED frame has no pad length (RFC 9113 §6.1)",
        ));
    };
    match content.len().checked_sub(usize::from(padding)) {
        Some(len) => Ok(&content[..len]),
        None => Err(Fault::connection(
            ErrorCode::PROTOCOL_ERROR,
            "padding is as long as the payload or longer (RFC 9113 §6.1)",
        )),
    }
}

/// The first four octets of a payload that is known to have them.
pub(crate) fn u32_at(payload: &[u8], at: usize) -> u32 {
    let mut octets = [0; 4];
    octets.copy_from_slice(&payload[at..at + 4]);
    u32::from_be_bytes(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_the_wire() {
        let head = Head { len: 0x01_02_03, kind: kind::DATA, flags: 0x9, stream: 0x7fff_fffe };
        let mut out = Vec::new();
        head.write(&mut out);
        let octets: [u8; HEAD_LEN] = out.try_into().unwrap();
        assert_eq!(Head::parse(&octets), head);
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        let head = Head::parse(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]);
        assert_eq!(head.stream, 1);
    }

    #[test]
    fn padding_may_fill_but_not_exceed_the_payload() {
        let head = Head { len: 0, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(strip_padding(head, &[2, 7, 0, 0]), Ok(&[7][..]));
        assert_eq!(strip_padding(head, &[1, 0]), Ok(&[][..]));
        assert!(strip_padding(head, &[2, 0]).is_err());
        assert!(strip_padding(head, &[]).is_err());
    }
}
