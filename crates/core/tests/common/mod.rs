//! One end of a gRPC connection and a peer that a test plays by hand: frames in, events and frames out, on a clock that
//! the test moves.

#![allow(dead_code, unreachable_pub)] // Each test file uses its part.

pub mod client;
pub mod server;

use oxgrpc_core::{Engine, Metadata};
use oxgrpc_testkit::clock::Clock;
use oxgrpc_testkit::frame::{self, BlockReader, Frame, PREFACE, kind};
use std::io::IoSlice;

/// An engine and what its peer has seen of it.
pub struct Peer<E> {
    pub engine: E,
    pub clock: Clock,
    unparsed: Vec<u8>,
    blocks: BlockReader,
}

impl<E: Engine> Peer<E> {
    fn fresh(engine: E) -> Self {
        Self {
            engine,
            clock: Clock::default(),
            unparsed: Vec::new(),
            blocks: BlockReader::default(),
        }
    }

    /// Sends the first SETTINGS and acknowledges the engine's.
    fn shake_hands(mut self, settings: &[(u16, u32)]) -> Self {
        self.send(frame::settings(settings)).send(frame::settings_ack());
        assert_eq!(self.frames().last(), Some(&frame::settings_ack()));
        self
    }

    pub fn send(&mut self, frame: Frame) -> &mut Self {
        self.send_octets(&frame.encode())
    }

    /// Sends what may break the connection's rules; what is left unparsed stays in front of what comes next.
    pub fn send_octets(&mut self, octets: &[u8]) -> &mut Self {
        self.unparsed.extend_from_slice(octets);
        let unparsed = std::mem::take(&mut self.unparsed);
        let mut input = &unparsed[..];
        // A violation ends in a GOAWAY, which the test sees.
        let _ = self.engine.receive(&mut input, self.clock.now());
        self.unparsed = input.to_vec();
        self
    }

    /// Lets time pass, and wakes the engine if it asked for that.
    pub fn advance(&mut self, milliseconds: u64) -> &mut Self {
        let now = self.clock.advance(milliseconds);
        if self.engine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.engine.expire(now);
        }
        self
    }

    /// The octets that the engine has written since the last call.
    pub fn octets(&mut self) -> Vec<u8> {
        let mut written = Vec::new();
        loop {
            let http = self.engine.http_mut();
            http.fill();
            let mut slices = [IoSlice::new(&[]); 16];
            let count = http.slices(&mut slices);
            let octets: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            if octets.is_empty() {
                return written;
            }
            http.advance(octets.len());
            written.extend(octets);
        }
    }

    /// The frames that the engine has written since the last call, without a client's magic octets.
    pub fn frames(&mut self) -> Vec<Frame> {
        let octets = self.octets();
        frame::parse_all(octets.strip_prefix(PREFACE).unwrap_or(&octets))
    }

    /// The frames that are about a stream; others are dropped.
    pub fn frames_on(&mut self, stream: u32) -> Vec<Frame> {
        self.frames().into_iter().filter(|frame| frame.stream == stream).collect()
    }

    /// The fields of a header section that is one frame. To be called for each that is written, in their order.
    #[track_caller]
    pub fn fields(&mut self, frame: &Frame) -> Vec<(String, String)> {
        assert_eq!((frame.kind, frame.flags & 0x4), (kind::HEADERS, 0x4), "{frame:?}");
        self.blocks.read(&frame.payload)
    }

    /// What has been written since the last call, in short: fields, content, resets and pings aside from the rest.
    pub fn written(&mut self) -> Vec<Written> {
        let frames = self.frames();
        frames.iter().filter_map(|frame| self.read(frame)).collect()
    }

    fn read(&mut self, frame: &Frame) -> Option<Written> {
        let end = frame.flags & frame::flag::END_STREAM != 0;
        match frame.kind {
            kind::HEADERS => Some(Written::Fields(self.fields(frame), end)),
            kind::DATA => Some(Written::Data(frame.payload.clone(), end)),
            kind::RST_STREAM => Some(Written::Reset(frame.error_code())),
            _ => None,
        }
    }

    /// The connection lives: it answers a PING, after whatever it had to write before.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        assert_eq!(self.engine.http().violation(), None);
        self.frames();
        self.send(frame::ping(*b"alive?  "));
        assert_eq!(self.frames(), [frame::pong(*b"alive?  ")]);
    }
}

/// A frame of a call's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// Fields, and whether they end the stream.
    Fields(Vec<(String, String)>, bool),
    /// Content, and whether it ends the stream.
    Data(Vec<u8>, bool),
    /// The error code.
    Reset(u32),
}

/// A field's value.
pub fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|field| field.0 == name).map(|field| &*field.1)
}

pub fn metadata(pairs: &[(&str, &[u8])]) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in pairs {
        metadata.push(key.as_bytes(), value).expect("valid metadata");
    }
    metadata
}

/// Metadata as text, binary values escaped.
pub fn pairs(metadata: &Metadata) -> Vec<(String, String)> {
    let text = |octets: &[u8]| octets.escape_ascii().to_string();
    metadata.iter().map(|(key, value)| (text(key), text(value))).collect()
}

/// Text pairs to compare with.
pub fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}
