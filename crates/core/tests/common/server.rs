//! Our server; the test plays the client.

use super::Peer;
use oxgrpc_core::{
    Accepted, CallId, Method, Methods, Next, ServerConnection, ServerEvent, ServerOptions,
};
use oxgrpc_testkit::frame::{self, Frame, PREFACE};
use std::sync::Arc;

pub type Server = Peer<ServerConnection<Vec<u8>>>;

/// A method whose client sends one message.
pub const UNARY: &str = "/s/Unary";
/// A method whose client sends a stream.
pub const STREAM: &str = "/s/Stream";

impl Server {
    /// A server that has shaken hands.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with other options.
    pub fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        Self::raw(change, false).greeted()
    }

    /// One that reports calls of methods that it does not have.
    pub fn reporting_unknown() -> Self {
        Self::raw(|_| {}, true).greeted()
    }

    /// Lets its client begin.
    pub fn greeted(mut self) -> Self {
        self.send_octets(PREFACE);
        self.shake_hands(&[])
    }

    /// A server that knows nothing of its client yet.
    pub fn raw(change: impl FnOnce(&mut ServerOptions), reports_unknown: bool) -> Self {
        let mut options = ServerOptions::default();
        // Tests ask by PING whether a server lives; see ping_policy.rs for those that count them.
        options.pings.max_strikes = 0;
        change(&mut options);
        let mut methods = Methods::default();
        methods.reports_unknown = reports_unknown;
        for (index, path) in [(0, UNARY), (1, STREAM)] {
            methods.insert(path.as_bytes(), Method { index, request_streaming: index == 1 });
        }
        Self::fresh(ServerConnection::new(options, Arc::new(methods)))
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<ServerEvent> {
        std::iter::from_fn(|| self.engine.next_event()).collect()
    }

    /// The call that has just been reported, accepted.
    #[track_caller]
    pub fn accept(&mut self) -> (CallId, Accepted) {
        match self.events()[..] {
            [ServerEvent::Call(call)] => (call, self.engine.accept(call).expect("a call")),
            ref other => panic!("{other:?} is not one call"),
        }
    }

    /// A call of the streaming method, accepted.
    #[track_caller]
    pub fn streaming(&mut self, stream: u32) -> CallId {
        self.send(frame::request(stream, STREAM));
        self.accept().0
    }

    /// The same, reported behind these events.
    #[track_caller]
    pub fn streaming_after(&mut self, stream: u32, before: &[ServerEvent]) -> CallId {
        self.send(frame::request(stream, STREAM));
        for event in before {
            assert_eq!(self.engine.next_event(), Some(*event));
        }
        self.accept().0
    }

    /// The messages that can be read now.
    pub fn read_all(&mut self, call: CallId) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while let Next::Message(message) = self.engine.take_message(call) {
            messages.push(message);
        }
        messages
    }
}

/// A request's header section with further fields.
pub fn request_with(stream: u32, path: &str, more: &[(&str, &str)]) -> Frame {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    frame::headers(stream, &[&fields[..], more].concat())
}
