//! One engine and a peer that a test plays by hand: frames in, events and frames out.
//!
//! Input is fed as a driver feeds it: what is left unparsed stays in front of what comes next. A stream's tag is its
//! id, and content is released when it is seen unless the test says otherwise.

#![allow(dead_code, unreachable_pub, unused_imports)] // Each test file uses its part.

pub mod seen;

use oxgrpc_http2::{
    Config, Connection, ErrorCode, Event, HeaderList, Indexing, NO_TAG, Role, StreamKey, Violation,
};
use oxgrpc_testkit::clock::Clock;
use oxgrpc_testkit::frame::{self, BlockReader, Frame, PREFACE, kind};
pub use seen::{Section, Seen};
use std::collections::HashMap;
use std::io::IoSlice;

/// An engine and what its peer has seen of it.
pub struct Peer {
    pub engine: Connection,
    pub clock: Clock,
    /// Whether content is released as soon as it is seen.
    pub reads: bool,
    unparsed: Vec<u8>,
    written: Vec<u8>,
    events: Vec<Seen>,
    faults: Vec<Violation>,
    keys: HashMap<u32, StreamKey>,
    blocks: BlockReader,
}

/// The beginnings.
impl Peer {
    /// A new engine; nothing has been exchanged.
    pub fn fresh(role: Role, config: Config) -> Self {
        Self {
            engine: Connection::new(role, config),
            clock: Clock::default(),
            reads: true,
            unparsed: Vec::new(),
            written: Vec::new(),
            events: Vec::new(),
            faults: Vec::new(),
            keys: HashMap::new(),
            blocks: BlockReader::default(),
        }
    }

    /// A server that has shaken hands with the client that the test plays.
    pub fn server() -> Self {
        Self::server_with(Config::default())
    }

    pub fn server_with(config: Config) -> Self {
        let mut peer = Self::fresh(Role::Server, config);
        peer.send_octets(PREFACE);
        peer.shake_hands(&[])
    }

    /// A client that has shaken hands with the server that the test plays.
    pub fn client() -> Self {
        Self::client_with(Config::default())
    }

    pub fn client_with(config: Config) -> Self {
        Self::fresh(Role::Client, config).shake_hands(&[])
    }

    /// Both roles, for rules that do not depend on it.
    pub fn both() -> [Self; 2] {
        [Self::client(), Self::server()]
    }

    /// Sends the first SETTINGS and acknowledges the engine's.
    pub fn shake_hands(mut self, settings: &[(u16, u32)]) -> Self {
        self.send(frame::settings(settings)).send(frame::settings_ack());
        assert_eq!(self.events(), [Seen::Settings]);
        assert_eq!(self.frames().last(), Some(&frame::settings_ack()));
        self
    }
}

/// What the test does in the peer's place.
impl Peer {
    pub fn send(&mut self, frame: Frame) -> &mut Self {
        self.send_octets(&frame.encode())
    }

    pub fn send_all(&mut self, frames: &[Frame]) -> &mut Self {
        self.send_octets(&frame::encode_all(frames))
    }

    pub fn send_octets(&mut self, octets: &[u8]) -> &mut Self {
        self.unparsed.extend_from_slice(octets);
        let unparsed = std::mem::take(&mut self.unparsed);
        let mut input = &unparsed[..];
        while let Ok(Some(event)) = self.engine.receive(&mut input, self.clock.now()) {
            self.note(event);
        }
        self.unparsed = input.to_vec();
        self
    }

    /// Octets that the engine has left for later.
    pub fn unparsed(&self) -> usize {
        self.unparsed.len()
    }

    fn note(&mut self, event: Event<'_>) {
        if let Event::Headers { stream, tag: NO_TAG, .. } = event {
            self.engine.set_tag(stream, stream.id());
            self.keys.insert(stream.id(), stream);
        }
        if let Event::Data { stream, data, .. } = &event
            && self.reads
        {
            self.engine.release(*stream, data.len());
        }
        if let Event::Failed { violation, .. } = &event {
            self.faults.push(*violation);
        }
        self.events.push(Seen::from(event));
    }

    /// Opens a stream with a request and leaves it open; for a server.
    pub fn request(&mut self, id: u32) -> StreamKey {
        self.send(frame::request(id, "/s/m"));
        assert!(matches!(self.events().pop(), Some(Seen::Headers { stream, .. }) if stream == id));
        self.key(id)
    }

    /// Lets time pass.
    pub fn advance(&mut self, milliseconds: u64) -> &mut Self {
        self.clock.advance(milliseconds);
        self
    }
}

/// What the test does in the place of the layer above the engine.
impl Peer {
    pub fn key(&self, id: u32) -> StreamKey {
        self.keys[&id]
    }

    /// The streams that ever were, whether they have ended or not.
    pub fn known(&self) -> Vec<StreamKey> {
        let mut keys: Vec<_> = self.keys.values().copied().collect();
        keys.sort_by_key(|key| key.id());
        keys
    }

    /// Opens a stream with a request and leaves it open; for a client.
    pub fn open(&mut self) -> StreamKey {
        let key = self.open_with(&REQUEST, false);
        self.frames();
        key
    }

    pub fn open_with(&mut self, fields: &[(&str, &str)], end_stream: bool) -> StreamKey {
        let fields = list(fields);
        let list = HeaderList { prepared: None, fields: &fields };
        let key = self.engine.open(list, end_stream, NO_TAG).expect("a stream can be opened");
        self.engine.set_tag(key, key.id());
        self.keys.insert(key.id(), key);
        key
    }

    /// Sends a response's header section; for a server.
    pub fn respond(&mut self, id: u32) {
        let fields = list(&[(":status", "200")]);
        let list = HeaderList { prepared: None, fields: &fields };
        self.engine.send_headers(self.key(id), list, false).expect("a response can be sent");
        self.frames();
    }

    pub fn trailers(&mut self, id: u32, fields: &[(&str, &str)]) -> oxgrpc_http2::Sent {
        let fields = list(fields);
        let list = HeaderList { prepared: None, fields: &fields };
        self.engine.send_trailers(self.key(id), list).expect("trailers can be sent")
    }

    pub fn data(&mut self, id: u32, content: &[u8], end_stream: bool) -> oxgrpc_http2::Sent {
        let key = self.key(id);
        self.engine.send_data(key, b"", content, end_stream).expect("data can be sent")
    }
}

/// What came of it.
impl Peer {
    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.events)
    }

    /// The octets that the engine has written since the last call.
    pub fn octets(&mut self) -> Vec<u8> {
        loop {
            self.engine.fill();
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.engine.slices(&mut slices);
            let octets: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            if octets.is_empty() {
                assert!(!self.engine.wants_write() && self.engine.output_len() == 0);
                return std::mem::take(&mut self.written);
            }
            self.engine.advance(octets.len());
            self.written.extend(octets);
        }
    }

    /// The frames that the engine has written since the last call, without a client's magic octets.
    pub fn frames(&mut self) -> Vec<Frame> {
        let octets = self.octets();
        frame::parse_all(octets.strip_prefix(PREFACE).unwrap_or(&octets))
    }

    /// The frames of one type; others are dropped.
    pub fn frames_of(&mut self, kind: u8) -> Vec<Frame> {
        self.frames().into_iter().filter(|frame| frame.kind == kind).collect()
    }

    /// The fields of a header section that the engine wrote as one frame. To be called for each, in their order.
    pub fn fields(&mut self, frame: &Frame) -> Vec<(String, String)> {
        assert_eq!((frame.kind, frame.flags & 0x4), (kind::HEADERS, 0x4));
        self.blocks.read(&frame.payload)
    }

    /// Nothing has come of it, and the connection lives.
    #[track_caller]
    pub fn expect_ignored(&mut self) -> &mut Self {
        assert_eq!((self.events(), self.frames()), (vec![], vec![]));
        self.expect_alive()
    }

    /// The connection lives: it answers a PING, after whatever it had to write before.
    #[track_caller]
    pub fn expect_alive(&mut self) -> &mut Self {
        assert_eq!(self.engine.violation(), None);
        self.frames();
        self.send(frame::ping(*b"alive?  "));
        assert_eq!(self.frames(), [frame::pong(*b"alive?  ")]);
        self
    }

    /// The engine has reset the stream, written nothing else, and the connection lives.
    #[track_caller]
    pub fn expect_reset(&mut self, stream: u32, code: ErrorCode) -> &mut Self {
        assert_eq!(self.frames(), [frame::reset(stream, code.0)]);
        self.expect_alive()
    }

    /// The same because of what the peer did; returns the rule. Events before that are dropped.
    #[track_caller]
    pub fn expect_failed(&mut self, stream: u32, code: ErrorCode) -> &'static str {
        self.expect_reset(stream, code);
        let last = self.events().pop();
        let failed = |tag| Some(Seen::Failed { stream: tag, code });
        assert!(last == failed(stream) || last == failed(NO_TAG), "{last:?} is not for {stream}");
        self.faults.pop().expect("a violation").rule()
    }

    /// The connection has ended: GOAWAY is the last thing written, and nothing more is taken. Returns the rule.
    #[track_caller]
    pub fn expect_go_away(&mut self, code: ErrorCode) -> &'static str {
        let violation = self.engine.violation().expect("the connection has ended");
        assert_eq!(violation.code(), code, "{violation}");
        let frames = self.frames();
        let last = frames.last().expect("a GOAWAY");
        assert_eq!((last.kind, last.error_code()), (kind::GOAWAY, code.0));
        assert_eq!(last.debug_data(), violation.rule());
        assert!(!self.engine.wants_read());
        self.events.clear();
        self.send(frame::ping([0; 8])).send(frame::request(0x7fff, "/late"));
        assert_eq!((self.events(), self.octets()), (vec![], vec![]));
        violation.rule()
    }
}

/// A request's fields.
pub const REQUEST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/s/m"), (":authority", "localhost")];

/// Fields as the engine wants them, none of them to be indexed.
pub fn list<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a [u8], &'a [u8], Indexing)> {
    let field =
        |(name, value): &(&'a str, &'a str)| (name.as_bytes(), value.as_bytes(), Indexing::Literal);
    fields.iter().map(field).collect()
}
