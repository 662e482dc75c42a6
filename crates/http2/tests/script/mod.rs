//! Random conversations: calls that run at the same time over one connection, and what each side must have seen of the
//! other when all is over. Who plays them is another matter: see `actor` for our engine.

#![allow(dead_code, unreachable_pub)] // Each test file uses its part.

pub mod actor;

use oxgrpc_http2::Config;
use proptest::prelude::*;
use proptest::sample::select;
use std::fmt;

pub type Fields = Vec<(String, Vec<u8>)>;

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
    pub frame: u32,
    pub output: usize,
    pub table: u32,
    /// How many calls the client may have open at once.
    pub streams: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub request: Message,
    pub response: Message,
}

/// One direction of a call. The content follows from the call's number and the direction.
#[derive(Clone)]
pub struct Message {
    pub fields: Fields,
    pub chunks: Vec<usize>,
    pub ending: Ending,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Ending {
    Data,
    Trailers(Fields),
    /// The sender resets the stream with this code instead of ending its message.
    Reset(u32),
}

/// What one side has seen of a message.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Seen {
    pub fields: Option<Fields>,
    pub content: Vec<u8>,
    pub trailers: Option<Fields>,
    pub end: End,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub enum End {
    #[default]
    Missing,
    Complete,
    Reset(u32),
    Failed(String),
}

/// On one line, for a failed property shows many of them.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |f: &mut fmt::Formatter<'_>, fields: &Fields| {
            fields
                .iter()
                .try_for_each(|(name, value)| write!(f, " {name}={}", value.escape_ascii()))
        };
        show(f, &self.fields)?;
        write!(f, " {:?}", self.chunks)?;
        match &self.ending {
            Ending::Data => write!(f, " END"),
            Ending::Trailers(fields) => show(f, fields),
            Ending::Reset(code) => write!(f, " RESET {code}"),
        }
    }
}

impl Message {
    pub fn len(&self) -> usize {
        self.chunks.iter().sum()
    }

    pub fn resets(&self) -> Option<u32> {
        match self.ending {
            Ending::Reset(code) => Some(code),
            _ => None,
        }
    }

    /// The message was seen as it was sent, as far as resets allow; `other` goes the other way.
    pub fn assert_seen(&self, content: &[u8], seen: &Seen, other: &Self) {
        assert!(!matches!(seen.end, End::Failed(_)), "{seen:?}");
        // Whatever was seen is what was sent.
        assert!(content.starts_with(&seen.content), "other content than was sent");
        if let Some(fields) = &seen.fields {
            assert_eq!(sorted(fields), sorted(&self.fields));
        }
        match (self.resets(), other.resets()) {
            (None, None) => {
                assert_eq!(seen.end, End::Complete);
                assert!(seen.fields.is_some() && seen.content.len() == content.len());
                let trailers = match &self.ending {
                    Ending::Trailers(fields) => Some(sorted(fields)),
                    _ => None,
                };
                assert_eq!(seen.trailers.as_deref().map(sorted), trailers);
            }
            // A peer may take back what it has not written yet, even all of it.
            (Some(code), None) if seen.fields.is_some() => assert_eq!(seen.end, End::Reset(code)),
            _ => {}
        }
    }
}

/// Fields by name; those of one name keep their order.
pub fn sorted(fields: &[(String, Vec<u8>)]) -> Fields {
    let mut fields = fields.to_vec();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

/// The octets from `at` to `at + len` of a message.
pub fn content(call: usize, is_request: bool, at: usize, len: usize) -> Vec<u8> {
    let seed = call * 2 + usize::from(is_request);
    (at..at + len).map(|i| (i * 7 + i / 256 * 11 + seed * 13) as u8).collect()
}

impl Script {
    /// Both sides have seen what the other has sent.
    pub fn assert_seen(&self, by_client: &[Seen], by_server: &[Seen]) {
        for (i, call) in self.calls.iter().enumerate() {
            let octets = |is_request, message: &Message| content(i, is_request, 0, message.len());
            let (request, response) = (&call.request, &call.response);
            request.assert_seen(&octets(true, request), &by_server[i], response);
            response.assert_seen(&octets(false, response), &by_client[i], request);
        }
    }
}

impl Knobs {
    pub fn config(&self) -> Config {
        Config {
            initial_stream_window_bytes: self.stream_window,
            max_stream_window_bytes: self.stream_window.saturating_mul(4),
            connection_window_bytes: self.connection_window,
            max_frame_bytes: self.frame,
            max_concurrent_streams: self.streams,
            max_output_bytes: self.output,
            ..Config::default()
        }
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let name = prop_oneof![
        3 => select(vec!["grpc-timeout", "user-agent", "x-a", "x-b", "x-c-bin"]).prop_map(str::to_string),
        1 => "x-[a-z0-9_.-]{1,24}",
    ];
    let value = prop_oneof![
        4 => "[!-~]{0,12}".prop_map(String::into_bytes),
        1 => "[!-~][ -~]{0,200}[!-~]".prop_map(String::into_bytes),
        1 => prop::collection::vec(128u8..=255, 1..20),
    ];
    prop::collection::vec((name, value), 0..8)
}

fn message() -> impl Strategy<Value = Message> {
    let chunk = prop_oneof![
        2 => Just(0usize),
        8 => 1usize..100,
        4 => 100usize..5000,
        1 => 5000usize..70_000,
    ];
    let ending = prop_oneof![
        5 => Just(Ending::Data),
        5 => fields().prop_map(Ending::Trailers),
        // CANCEL, INTERNAL_ERROR, one of nobody's.
        1 => select(vec![8, 2, 0xfeed]).prop_map(Ending::Reset),
    ];
    (fields(), prop::collection::vec(chunk, 0..6), ending)
        .prop_map(|(fields, chunks, ending)| Message { fields, chunks, ending })
}

fn knobs() -> impl Strategy<Value = Knobs> {
    (
        select(vec![500u32, 5000, 16_384, 65_535, 1 << 20]),
        select(vec![65_535u32, 100_000, 4 << 20]),
        select(vec![1u32 << 14, 20_000, 1 << 20]),
        select(vec![1usize, 5000, 256 << 10]),
        select(vec![0u32, 100, 4096, 1 << 16]),
        prop::option::weighted(0.4, 1u32..5),
    )
        .prop_map(|(stream_window, connection_window, frame, output, table, streams)| Knobs {
            stream_window,
            connection_window,
            frame,
            output,
            table,
            streams,
        })
}

/// Any conversation.
pub fn script() -> impl Strategy<Value = Script> {
    let call = (message(), message()).prop_map(|(request, response)| Call { request, response });
    let cut = prop_oneof![1 => 1usize..40, 2 => 40usize..3000, 3 => 3000usize..40_000];
    (knobs(), knobs(), prop::collection::vec(call, 1..12), prop::collection::vec(cut, 1..12))
        .prop_map(|(client, server, calls, cuts)| Script { client, server, calls, cuts })
}
