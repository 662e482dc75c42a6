//! Our client; the test plays the server.

use super::{Peer, Written};
use oxgrpc_core::{
    CallId, ClientConnection, ClientEvent, ClientOptions, Code, Encoding, Metadata, Next, Outcome,
    Request, StartError,
};
use oxgrpc_testkit::frame;
use std::time::Duration;

pub type Client = Peer<ClientConnection<Vec<u8>>>;

impl Client {
    /// A client that has shaken hands.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with other options.
    pub fn with(change: impl FnOnce(&mut ClientOptions)) -> Self {
        Self::against(&[], change)
    }

    /// A client whose server has these settings.
    pub fn against(settings: &[(u16, u32)], change: impl FnOnce(&mut ClientOptions)) -> Self {
        let mut client = Self::raw(change).shake_hands(settings);
        assert_eq!(client.events(), [ClientEvent::Settings]);
        client
    }

    /// A client that knows nothing of its server yet.
    pub fn raw(change: impl FnOnce(&mut ClientOptions)) -> Self {
        let mut options = ClientOptions {
            scheme: "http",
            authority: "server:50051".into(),
            user_agent: "test-agent/1".into(),
            ..ClientOptions::default()
        };
        change(&mut options);
        Self::fresh(ClientConnection::new(options))
    }

    /// Starts a call with one response; it has the next odd stream id.
    pub fn unary(&mut self) -> CallId {
        self.start(|_| {}).expect("a call can be started")
    }

    /// Starts a call with a stream of responses.
    pub fn streaming(&mut self) -> CallId {
        self.start(|request| request.unary_response = false).expect("a call can be started")
    }

    pub fn start(&mut self, change: impl FnOnce(&mut Request<'_>)) -> Result<CallId, StartError> {
        let mut request = Request {
            path: b"/s/Method",
            metadata: &Metadata::new(),
            deadline: None,
            encoding: Encoding::Identity,
            unary_response: true,
            limits: None,
            previous_attempts: 0,
        };
        change(&mut request);
        self.engine.start(&request, self.clock.now())
    }

    /// Starts a call with metadata or a timeout.
    pub fn start_with(
        &mut self,
        metadata: &Metadata,
        timeout: Option<Duration>,
    ) -> Result<CallId, StartError> {
        let request = Request {
            path: b"/s/Method",
            metadata,
            deadline: timeout.map(|timeout| self.clock.now() + timeout),
            encoding: Encoding::Identity,
            unary_response: true,
            limits: None,
            previous_attempts: 0,
        };
        self.engine.start(&request, self.clock.now())
    }

    /// The same; returns the header section.
    pub fn headers_of(
        &mut self,
        metadata: &Metadata,
        timeout: Option<Duration>,
    ) -> Vec<(String, String)> {
        self.start_with(metadata, timeout).expect("a call can be started");
        match self.written().remove(0) {
            Written::Fields(fields, false) => fields,
            other => panic!("{other:?} is not a request's header section"),
        }
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<ClientEvent> {
        std::iter::from_fn(|| self.engine.next_event()).collect()
    }

    /// How a call has ended, which has been reported once.
    #[track_caller]
    pub fn outcome(&mut self, call: CallId) -> Outcome {
        let events = self.events();
        let ended = events.iter().filter(|event| **event == ClientEvent::Ended(call)).count();
        assert_eq!(ended, 1, "{events:?}");
        self.engine.take_outcome(call).expect("it has ended")
    }

    /// The code and the message that a call has ended with.
    #[track_caller]
    pub fn status(&mut self, call: CallId) -> (Code, String) {
        let status = self.outcome(call).status;
        (status.code, status.message.into_owned())
    }

    /// The messages that can be read now.
    pub fn read_all(&mut self, call: CallId) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while let Next::Message(message) = self.engine.take_message(call) {
            messages.push(message);
        }
        messages
    }

    /// The server answers a call with these fields alone.
    pub fn answer(&mut self, stream: u32, fields: &[(&str, &str)]) -> &mut Self {
        self.send(frame::headers(stream, fields).end_stream())
    }

    /// Starts a call which the server answers with these fields alone.
    pub fn answered(&mut self, fields: &[(&str, &str)]) -> Outcome {
        let call = self.unary();
        let stream = self.last_stream();
        self.answer(stream, fields);
        self.outcome(call)
    }

    /// The stream of the call that was started last; to be called at once.
    #[track_caller]
    pub fn last_stream(&mut self) -> u32 {
        self.frames().last().expect("a frame").stream
    }
}
