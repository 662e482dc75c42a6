//! Random conversations: calls of all four kinds at the same time over one connection, and what each side must have seen
//! of the other when all is over. Who plays them is another matter: see `client` and `server` for our engine.

#![allow(dead_code, unreachable_pub)] // Each test file uses its part.

pub mod client;
pub mod expect;
pub mod generate;
pub mod server;

use oxgrpc_core::{Code, Config, Encoding, Metadata};
use std::fmt;

/// Keys and values as the application sees them.
pub type Pairs = Vec<(String, Vec<u8>)>;

/// A conversation.
#[derive(Clone, Debug)]
pub struct Script {
    pub client: Knobs,
    pub server: Knobs,
    pub calls: Vec<Call>,
    /// How many octets the wire carries at a time, in a circle.
    pub cuts: Vec<usize>,
}

/// What one side grants and allows.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    pub stream_window: u32,
    pub connection_window: u32,
    pub output: usize,
    /// How many calls the client may have open at once.
    pub streams: Option<u32>,
}

/// One call. What its messages contain follows from its number, the direction and the message's number.
#[derive(Clone)]
pub struct Call {
    pub kind: Kind,
    pub metadata: Pairs,
    pub requests: Vec<Body>,
    /// How many requests the server reads before it finishes; all of them and the end, if `None`.
    pub reads: Option<usize>,
    pub order: Order,
    pub initial: Pairs,
    pub responses: Vec<Body>,
    pub trailing: Pairs,
    pub code: Code,
    pub message: String,
    pub request_encoding: Encoding,
    pub response_encoding: Encoding,
    /// The client cancels after so many turns, if the call still runs.
    pub cancel: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Unary,
    ClientStreaming,
    ServerStreaming,
    Bidirectional,
}

/// When the server sends its responses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Once it has read what it reads.
    Last,
    /// Before it reads anything.
    First,
    /// One after each request, and what is left of either in the end.
    Alternating,
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    pub len: usize,
    pub compress: bool,
}

/// What the server's application has seen of a call.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SeenByServer {
    pub accepted: bool,
    pub metadata: Pairs,
    pub requests: Vec<Octets>,
    /// The client's end of the requests.
    pub read_all: bool,
    /// The call was answered with a status.
    pub finished: bool,
    pub cancelled: bool,
}

/// What the client's application has seen of a call.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SeenByClient {
    pub initial: Pairs,
    pub responses: Vec<Octets>,
    pub outcome: Option<(Code, String, Pairs)>,
    pub cancelled: bool,
}

/// A message, of which a failed assertion shows the first.
#[derive(Clone, PartialEq)]
pub struct Octets(pub Vec<u8>);

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.len(), self.0[..self.0.len().min(8)].escape_ascii())
    }
}

/// On one line, for a failed property shows many of them.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bodies = |bodies: &[Body]| -> Vec<String> {
            let mark = |compress| if compress { "z" } else { "" };
            bodies.iter().map(|body| format!("{}{}", body.len, mark(body.compress))).collect()
        };
        let pairs = |pairs: &Pairs| -> Vec<String> {
            let pair = |(key, value): &(String, Vec<u8>)| format!("{key}={}", value.escape_ascii());
            pairs.iter().map(pair).collect()
        };
        write!(f, "{:?} {:?}", self.kind, pairs(&self.metadata))?;
        write!(f, " {:?} {:?}", self.request_encoding, bodies(&self.requests))?;
        write!(f, " reads {:?} {:?} then", self.reads, self.order)?;
        write!(f, " {:?} {:?}", pairs(&self.initial), self.response_encoding)?;
        write!(f, " {:?} {:?}", bodies(&self.responses), pairs(&self.trailing))?;
        write!(f, " {:?} {:?} cancel {:?}", self.code, self.message, self.cancel)
    }
}

impl Kind {
    pub fn streams_requests(self) -> bool {
        matches!(self, Self::ClientStreaming | Self::Bidirectional)
    }

    pub fn streams_responses(self) -> bool {
        matches!(self, Self::ServerStreaming | Self::Bidirectional)
    }

    /// The path of calls of this kind; the call's number travels in the metadata.
    pub fn path(self) -> String {
        format!("/test.Script/{self:?}")
    }

    pub const ALL: [Self; 4] =
        [Self::Unary, Self::ClientStreaming, Self::ServerStreaming, Self::Bidirectional];
}

/// The key that tells a call's number.
pub const NUMBER: &str = "x-call";

/// The number of the call that this metadata came with, which is taken out of it.
pub fn take_number(pairs: &mut Pairs) -> usize {
    let at = pairs.iter().position(|(key, _)| key == NUMBER).expect("the call's number");
    let (_, value) = pairs.remove(at);
    String::from_utf8(value).expect("text").parse().expect("a number")
}

impl Call {
    /// The metadata of the request with the call's number.
    pub fn request_metadata(&self, number: usize) -> Pairs {
        let mut pairs = self.metadata.clone();
        pairs.push((NUMBER.into(), number.to_string().into_bytes()));
        pairs
    }

    pub fn request(&self, number: usize, i: usize) -> Vec<u8> {
        content(number * 2, i, self.requests[i].len)
    }

    pub fn response(&self, number: usize, i: usize) -> Vec<u8> {
        content(number * 2 + 1, i, self.responses[i].len)
    }

    /// What the server does next when it has read and written so much.
    pub fn next_step(&self, read: usize, read_all: bool, written: usize) -> Step {
        let done_reading = read_all || self.reads.is_some_and(|reads| read >= reads);
        let done_writing = written == self.responses.len();
        let write = match self.order {
            Order::First => true,
            Order::Last => done_reading,
            Order::Alternating => done_reading || written < read,
        };
        match (done_writing, done_reading) {
            (true, true) => Step::Finish,
            (false, _) if write => Step::Write,
            _ => Step::Read,
        }
    }
}

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Read,
    Write,
    Finish,
}

/// A message's content, some of it compressible.
fn content(seed: usize, i: usize, len: usize) -> Vec<u8> {
    let seed = seed * 31 + i * 17;
    (0..len).map(|at| (at / 3 * 7 + at / 256 * 11 + seed) as u8).collect()
}

impl Knobs {
    pub fn config(&self) -> Config {
        Config {
            initial_stream_window_bytes: self.stream_window,
            max_stream_window_bytes: self.stream_window.saturating_mul(4),
            connection_window_bytes: self.connection_window,
            max_concurrent_streams: self.streams,
            max_output_bytes: self.output,
            ..Config::default()
        }
    }
}

pub fn metadata(pairs: &Pairs) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in pairs {
        metadata.push(key.as_bytes(), value).expect("valid metadata");
    }
    metadata
}

pub fn pairs(metadata: &Metadata) -> Pairs {
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("a key in ASCII");
    metadata.iter().map(|(key, value)| (text(key), value.to_vec())).collect()
}
