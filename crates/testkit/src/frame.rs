//! Frames, built and read by hand (RFC 9113 §4.1, §6).
//!
//! ```
//! use oxgrpc_testkit::frame::{data, encode_all, headers, parse_all};
//!
//! let script = [headers(1, &[(":status", "200")]), data(1, "hello").padded(3).end_stream()];
//! assert_eq!(parse_all(&encode_all(&script)), script);
//! ```

pub use crate::block::{BlockReader, block, field};
use std::fmt;

/// The client's preface.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
#[allow(missing_docs)]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
#[allow(missing_docs)]
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings identifiers.
#[allow(missing_docs)]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Any frame, right or wrong.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type.
    pub kind: u8,
    /// The flags.
    pub flags: u8,
    /// The stream id.
    pub stream: u32,
    /// The payload, with padding and all.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame as it is told.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        Self { kind, flags, stream, payload: payload.as_ref().to_vec() }
    }

    /// Sets further flags.
    pub fn with(mut self, flags: u8) -> Self {
        self.flags |= flags;
        self
    }

    /// Clears flags.
    pub fn without(mut self, flags: u8) -> Self {
        self.flags &= !flags;
        self
    }

    /// Sets END_STREAM.
    pub fn end_stream(self) -> Self {
        self.with(flag::END_STREAM)
    }

    /// Pads DATA or HEADERS with `len` octets.
    pub fn padded(mut self, len: u8) -> Self {
        self.payload.insert(0, len);
        self.payload.extend(std::iter::repeat_n(0, usize::from(len)));
        self.with(flag::PADDED)
    }

    /// Puts the priority fields of HEADERS in front of the fragment.
    pub fn prioritized(mut self, depends_on: u32) -> Self {
        self.payload.splice(0..0, [&depends_on.to_be_bytes()[..], &[15]].concat());
        self.with(flag::PRIORITY)
    }

    /// HEADERS cut into pieces of up to `len` octets: CONTINUATION frames follow the first.
    pub fn in_pieces(&self, len: usize) -> Vec<Self> {
        let mut pieces: Vec<_> =
            self.payload.chunks(len).map(|piece| continuation(self.stream, piece)).collect();
        let first = &mut pieces[0];
        (first.kind, first.flags) = (kind::HEADERS, self.flags & !flag::END_HEADERS);
        if let Some(last) = pieces.last_mut() {
            last.flags |= self.flags & flag::END_HEADERS;
        }
        pieces
    }

    /// A head like the frame's that promises `len` octets of payload.
    pub fn head_for(&self, len: usize) -> Vec<u8> {
        let mut head = self.encode();
        head.truncate(9);
        head[..3].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
        head
    }

    /// The octets on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = (self.payload.len() as u32).to_be_bytes()[1..].to_vec();
        out.extend([self.kind, self.flags]);
        out.extend(self.stream.to_be_bytes());
        out.extend(&self.payload);
        out
    }

    /// The big-endian number at `at` in the payload.
    pub fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four octets"))
    }

    /// The error code of RST_STREAM or GOAWAY.
    pub fn error_code(&self) -> u32 {
        self.u32_at(if self.kind == kind::GOAWAY { 4 } else { 0 })
    }

    /// GOAWAY's debug data, as text.
    pub fn debug_data(&self) -> String {
        String::from_utf8_lossy(&self.payload[8..]).into_owned()
    }

    /// The entries of SETTINGS.
    pub fn settings(&self) -> Vec<(u16, u32)> {
        let entry = |entry: &[u8]| {
            (
                u16::from_be_bytes([entry[0], entry[1]]),
                u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]),
            )
        };
        self.payload.chunks(6).map(entry).collect()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = NAMES.get(usize::from(self.kind)).copied().unwrap_or("UNKNOWN");
        write!(f, "{name}[stream {} flags {:#x}] ", self.stream, self.flags)?;
        write!(f, "{}", self.payload.escape_ascii())
    }
}

/// DATA.
pub fn data(stream: u32, content: impl AsRef<[u8]>) -> Frame {
    Frame::new(kind::DATA, 0, stream, content)
}

/// HEADERS with a block of literals that leave the dynamic table alone.
pub fn headers(stream: u32, fields: &[(&str, &str)]) -> Frame {
    Frame::new(kind::HEADERS, flag::END_HEADERS, stream, block(fields))
}

/// A request's header section, as gRPC has it.
pub fn request(stream: u32, path: &str) -> Frame {
    headers(
        stream,
        &[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ],
    )
}

/// A response's header section, as gRPC has it.
pub fn response(stream: u32) -> Frame {
    headers(stream, &[(":status", "200"), ("content-type", "application/grpc")])
}

/// Trailers, as gRPC has them.
pub fn trailers(stream: u32) -> Frame {
    headers(stream, &[("grpc-status", "0")]).end_stream()
}

/// PUSH_PROMISE.
pub fn push_promise(stream: u32, promised: u32, fields: &[(&str, &str)]) -> Frame {
    let payload = [&promised.to_be_bytes()[..], &block(fields)].concat();
    Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, payload)
}

/// CONTINUATION.
pub fn continuation(stream: u32, fragment: impl AsRef<[u8]>) -> Frame {
    Frame::new(kind::CONTINUATION, 0, stream, fragment)
}

/// RST_STREAM.
pub fn reset(stream: u32, code: u32) -> Frame {
    Frame::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
}

/// SETTINGS.
pub fn settings(entries: &[(u16, u32)]) -> Frame {
    let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let payload: Vec<u8> = entries.iter().flat_map(entry).collect();
    Frame::new(kind::SETTINGS, 0, 0, payload)
}

/// The acknowledgement of SETTINGS.
pub fn settings_ack() -> Frame {
    Frame::new(kind::SETTINGS, flag::ACK, 0, "")
}

/// PING.
pub fn ping(payload: [u8; 8]) -> Frame {
    Frame::new(kind::PING, 0, 0, payload)
}

/// The answer to PING.
pub fn pong(payload: [u8; 8]) -> Frame {
    Frame::new(kind::PING, flag::ACK, 0, payload)
}

/// GOAWAY.
pub fn go_away(last_stream: u32, code: u32, debug: &str) -> Frame {
    let payload = [&last_stream.to_be_bytes()[..], &code.to_be_bytes(), debug.as_bytes()].concat();
    Frame::new(kind::GOAWAY, 0, 0, payload)
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, increment: u32) -> Frame {
    Frame::new(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

/// PRIORITY.
pub fn priority(stream: u32, depends_on: u32) -> Frame {
    let payload = [&depends_on.to_be_bytes()[..], &[15]].concat();
    Frame::new(kind::PRIORITY, 0, stream, payload)
}

/// The octets of several frames.
pub fn encode_all(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::encode).collect()
}

/// Reads frames from octets that hold nothing else.
pub fn parse_all(mut octets: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((frame, rest)) = parse(octets) {
        frames.push(frame);
        octets = rest;
    }
    assert!(octets.is_empty(), "{} octets are not a whole frame", octets.len());
    frames
}

/// Reads the first frame, if all of it is there.
pub fn parse(octets: &[u8]) -> Option<(Frame, &[u8])> {
    let (head, rest) = octets.split_at_checked(9)?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (payload, rest) = rest.split_at_checked(len)?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((Frame::new(head[3], head[4], stream, payload), rest))
}
